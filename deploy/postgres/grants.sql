-- What each process may do; run as amana_owner after every `amana migrate`, as often as one likes:
--   psql --username amana_owner --dbname amana --file grants.sql
-- A table that is not named here is closed to all of them. `amana maintain` has a role of its own, which is a member of
-- both others: it does for either what nobody asked for.

\set ON_ERROR_STOP on

BEGIN;

REVOKE ALL ON ALL TABLES IN SCHEMA public FROM amana_intake, amana_desk, amana_maintain;

-- Both look whether the schema is theirs.
GRANT SELECT ON alembic_version TO amana_intake, amana_desk;

-- What happened is added to; neither process can change or delete it.
GRANT INSERT ON events, waiting_leaves TO amana_intake, amana_desk;

-- Intake gives the leaves of both logs their places, and publishes; a place once given stays. Both serve what is
-- published. A leaf of the custody log tells nothing of its event.
GRANT SELECT ON waiting_leaves TO amana_intake, amana_desk;
GRANT DELETE ON waiting_leaves TO amana_intake;
GRANT SELECT, INSERT ON logs, log_leaves, published_checkpoints TO amana_intake;
GRANT UPDATE (size) ON logs TO amana_intake;
GRANT UPDATE (size, note) ON published_checkpoints TO amana_intake;
GRANT SELECT, UPDATE ON sequencer_lease TO amana_intake;
GRANT SELECT, INSERT, UPDATE ON cosigned_checkpoints TO amana_intake;
GRANT SELECT ON logs, log_leaves, published_checkpoints, cosigned_checkpoints TO amana_desk;

-- Intake asks authorities for time stamps; one that was given is never changed. Both tell which there are.
GRANT SELECT, INSERT, UPDATE ON stamping_rounds TO amana_intake;
GRANT SELECT, INSERT ON time_stamps TO amana_intake;
GRANT SELECT ON time_stamps, stamping_rounds TO amana_desk;

-- Both serve the directory or sign its time stamp anew; only the desk publishes a version.
GRANT SELECT, INSERT, UPDATE, DELETE ON directory_files TO amana_intake, amana_desk;
GRANT SELECT ON directory_versions TO amana_intake;
GRANT SELECT, INSERT ON directory_versions TO amana_desk;

-- Intake: testimonies arrive, and are forgotten when they were left unfinished.
GRANT SELECT, INSERT, UPDATE, DELETE ON testimonies, grants, objects TO amana_intake;
GRANT SELECT, INSERT, UPDATE, DELETE ON server_processes TO amana_intake;

-- Intake also hears what witnesses say later: it tells them who opened their testimony, ends work on what was
-- withdrawn, and destroys it when its delay is over.
GRANT SELECT, INSERT, UPDATE, DELETE ON policy_versions, control_statements, control_nonces, destructions TO amana_intake;
GRANT SELECT ("case", actor, action, accepted_at, body), UPDATE (body) ON actions TO amana_intake;
GRANT SELECT ("case", ended_on), UPDATE (ended_on, ended_because) ON assignments TO amana_intake;
GRANT SELECT ("case"), DELETE ON routing_tasks, notes TO amana_intake;
GRANT SELECT ON policy_versions, destructions TO amana_desk;
-- Who could open what is destroyed is kept for the record, which the desk shows.
GRANT INSERT ON past_grants TO amana_intake;
GRANT SELECT ON past_grants TO amana_desk;

-- A vault's shares arrive with a testimony and are destroyed with it; of releases intake tells witnesses, and ends them.
GRANT SELECT, INSERT, DELETE ON vaults, shares TO amana_intake;
GRANT SELECT, UPDATE (ended_on, ended_because) ON releases TO amana_intake;
GRANT SELECT ("case", request), DELETE ON released_shares, release_answers TO amana_intake;
GRANT SELECT ("case"), DELETE ON share_pieces TO amana_intake;

-- It tells witnesses where their testimony went, and ends what has not left.
GRANT SELECT ("case", id, partner, purpose, identity_level, state, requested_on, exported_on), UPDATE (state) ON exports TO amana_intake;

-- Desk: staff sign in, open and read; of a testimony only its state changes, whether it was routed, and how long it is kept.
GRANT SELECT ON testimonies, grants, objects TO amana_desk;
GRANT UPDATE (state, routed, kept_since, allows, prolonged_until, ends_on) ON testimonies TO amana_desk;
GRANT SELECT, INSERT ON actions TO amana_desk;
GRANT SELECT, INSERT, UPDATE (is_over), DELETE ON sessions TO amana_desk;

-- A reader seals a grant anew to their own next key, or one to a colleague; a case's state is copied to its grants.
GRANT INSERT, UPDATE (sealed, intake_key, state) ON grants TO amana_desk;

-- Cases find their readers, who write about them; what was written or said stays.
GRANT SELECT, INSERT, UPDATE ON assignments, recusals TO amana_desk;
GRANT SELECT, INSERT, UPDATE, DELETE ON routing_tasks TO amana_desk;
GRANT SELECT, INSERT ON routing_rules, notes TO amana_desk;

-- The dead drop: the desk takes questions, which wait; upkeep alone publishes them; intake serves what is published and
-- sees nothing of what waits. Neither process that listens can remove a reply that was published, or slip one in.
GRANT SELECT, INSERT, DELETE ON drop_waiting TO amana_desk;
GRANT SELECT ON drop_shards, drop_slots TO amana_intake, amana_desk;
-- A shard is locked while a question is laid, which takes the right to change something of its row.
GRANT INSERT, UPDATE (behind) ON drop_shards TO amana_desk;
GRANT UPDATE, DELETE ON drop_shards TO amana_maintain;
GRANT INSERT, DELETE ON drop_slots TO amana_maintain;

-- Readers ask for a vault, custodians answer, and share it anew when they change: of shares none is altered, only replaced.
GRANT SELECT, UPDATE (k, custodians) ON vaults TO amana_desk;
GRANT SELECT, INSERT, DELETE ON shares, share_pieces, released_shares TO amana_desk;
GRANT SELECT, INSERT ON releases, release_answers TO amana_desk;
GRANT UPDATE (released_on, opened_on, ended_on, ended_because) ON releases TO amana_desk;

-- Cases leave: asked for, decided, reported. What happened with a case is shown to its readers and to auditors, and what
-- its witness said later.
GRANT SELECT, INSERT, UPDATE ON exports TO amana_desk;
GRANT SELECT ON events, control_statements TO amana_desk;

-- People come, are vetted, suspended, and confirmed; nothing about them is deleted.
GRANT SELECT, INSERT, UPDATE ON people TO amana_desk;
GRANT SELECT, INSERT ON invitations, enrolments, suspensions, reinstatements TO amana_desk;
GRANT UPDATE (used_by, expires_on) ON invitations TO amana_desk;
GRANT UPDATE (lifted_at) ON suspensions TO amana_desk;
GRANT SELECT, INSERT, UPDATE, DELETE ON key_replacements TO amana_desk;

-- Maintenance: what nobody used is deleted, what was found damaged is written down; all may look whether anything is.
GRANT DELETE ON invitations TO amana_maintain;
GRANT SELECT ON damages TO amana_intake, amana_desk;
GRANT INSERT, UPDATE (fault, mended_on) ON damages TO amana_maintain;

COMMIT;
