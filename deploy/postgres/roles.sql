-- The four roles of Amana; run once, as a superuser, in its empty database:
--   psql --dbname amana --file roles.sql
--
-- amana_owner   owns the tables; only `amana migrate` uses it
-- amana_intake  receives testimonies: it can write events and never read them, and sees nothing of staff
-- amana_desk    serves staff: it can neither add, delete nor change what witnesses sent
-- amana_maintain  runs `amana maintain` from a timer and listens to nobody; it may what the two above may, and little more
--
-- No role has a password here. On one machine PostgreSQL recognises the four users of the same
-- names by its socket ("peer"); compose.yaml adds passwords (passwords.sql).

\set ON_ERROR_STOP on

BEGIN;

CREATE ROLE amana_owner LOGIN;
CREATE ROLE amana_intake LOGIN CONNECTION LIMIT 80;
CREATE ROLE amana_desk LOGIN CONNECTION LIMIT 40;
CREATE ROLE amana_maintain LOGIN CONNECTION LIMIT 15;
GRANT amana_intake, amana_desk TO amana_maintain;

REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE, CREATE ON SCHEMA public TO amana_owner;
GRANT USAGE ON SCHEMA public TO amana_intake, amana_desk;

DO $$
BEGIN
    EXECUTE format('ALTER DATABASE %I OWNER TO amana_owner', current_database());
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO amana_intake, amana_desk', current_database());
END
$$;

-- A statement that fails would otherwise be written to PostgreSQL's log with the values in it.
ALTER ROLE amana_owner SET log_min_error_statement = 'panic';
ALTER ROLE amana_intake SET log_min_error_statement = 'panic';
ALTER ROLE amana_desk SET log_min_error_statement = 'panic';
ALTER ROLE amana_maintain SET log_min_error_statement = 'panic';

COMMIT;
