-- Give the roles the passwords that compose.yaml mounts as files.

\set ON_ERROR_STOP on
\set owner `cat /run/secrets/owner-password`
\set intake `cat /run/secrets/intake-password`
\set desk `cat /run/secrets/desk-password`
\set maintain `cat /run/secrets/maintain-password`

ALTER ROLE amana_owner PASSWORD :'owner';
ALTER ROLE amana_intake PASSWORD :'intake';
ALTER ROLE amana_desk PASSWORD :'desk';
ALTER ROLE amana_maintain PASSWORD :'maintain';
