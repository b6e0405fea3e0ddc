-- Options of servers and user mappings, and what keeps credentials where they
-- belong.
CREATE ROLE regress_pfa_source;
CREATE ROLE regress_pfa_other;
GRANT EXECUTE ON FUNCTION pfa_set_credentials(name, text, text),
    pfa_bind_credentials(name), pfa_test_source(name)
    TO regress_pfa_source, regress_pfa_other;

-- a wrong name lists the right ones
CREATE SERVER pfa_s FOREIGN DATA WRAPPER pfa_pems OPTIONS (bas_url 'https://a');
CREATE SERVER pfa_s FOREIGN DATA WRAPPER pfa_pems;
CREATE USER MAPPING FOR regress_pfa_source SERVER pfa_s OPTIONS (usrname 'u');
ALTER FOREIGN DATA WRAPPER pfa_pems OPTIONS (ADD base_url 'https://a');

-- a wrong value says what would be right
ALTER SERVER pfa_s OPTIONS (ADD base_url 'ftp://pems.example.com');
ALTER SERVER pfa_s OPTIONS (ADD base_url 'http://pems.example.com');
ALTER SERVER pfa_s OPTIONS (ADD base_url 'https://me:Tiger9@pems.example.com');
ALTER SERVER pfa_s OPTIONS (ADD base_url 'https://169.254.169.254/');
ALTER SERVER pfa_s OPTIONS (ADD base_url 'https://0x7f.1/');
ALTER SERVER pfa_s OPTIONS (ADD tenant '');
ALTER SERVER pfa_s OPTIONS (ADD tenant E'ACME\r\nX-Other: 1');
ALTER SERVER pfa_s OPTIONS (ADD page_size '0');
ALTER SERVER pfa_s OPTIONS (ADD page_size '10001');
ALTER SERVER pfa_s OPTIONS (ADD page_size '10.5');
ALTER SERVER pfa_s OPTIONS (ADD requests_in_flight '17');
ALTER SERVER pfa_s OPTIONS (ADD writes_per_second '1001');
ALTER SERVER pfa_s OPTIONS (ADD max_retries '-1');
ALTER SERVER pfa_s OPTIONS (ADD connect_timeout '99ms');
ALTER SERVER pfa_s OPTIONS (ADD connect_timeout '10 parsecs');
ALTER SERVER pfa_s OPTIONS (ADD timeout '3601');
ALTER SERVER pfa_s OPTIONS (ADD pagination 'cursor');
ALTER SERVER pfa_s OPTIONS (ADD supports_delta 'perhaps');
ALTER SERVER pfa_s OPTIONS (ADD ca_file 'ca.pem');
ALTER SERVER pfa_s OPTIONS (ADD proxy 'socks5://proxy');

-- all options at their best
ALTER SERVER pfa_s OPTIONS (ADD base_url 'http://127.0.0.1:1/axis',
    ADD tenant 'ACME', ADD grid_name 'CUPFAG', ADD grid_id '100541',
    ADD screen_name 'CUPFA2', ADD page_size '10000',
    ADD requests_in_flight '16', ADD writes_per_second '1000',
    ADD connect_timeout '0.1', ADD timeout '1 min', ADD max_retries '0',
    ADD pagination 'keyset', ADD supports_delta 'on',
    ADD ca_file '/etc/ssl/ca.pem', ADD verify_tls 'false',
    ADD proxy 'http://proxy.example.com:3128');
ALTER SERVER pfa_s OPTIONS (DROP ca_file, DROP verify_tls, DROP proxy);

-- a secret in a mapping is legal, but not wise; it is not repeated
CREATE USER MAPPING FOR regress_pfa_other SERVER pfa_s
    OPTIONS (username 'u', password 'Tiger9');
ALTER USER MAPPING FOR regress_pfa_other SERVER pfa_s
    OPTIONS (SET username 'a:b');
ALTER USER MAPPING FOR regress_pfa_other SERVER pfa_s
    OPTIONS (ADD api_key 'Tiger 9');
ALTER USER MAPPING FOR regress_pfa_other SERVER pfa_s
    OPTIONS (ADD password_file '/etc/secret');
DROP USER MAPPING FOR regress_pfa_other SERVER pfa_s;

-- who may do what
SET ROLE regress_pfa_source;
CREATE SERVER pfa_mine FOREIGN DATA WRAPPER pfa_pems;
SELECT pfa_set_credentials('pfa_s', 'api', 'Tiger9');
SELECT * FROM pfa_test_source('pfa_s');
RESET ROLE;
GRANT USAGE ON FOREIGN SERVER pfa_s TO regress_pfa_source;
GRANT USAGE ON FOREIGN DATA WRAPPER pfa_pems TO regress_pfa_source;
SET ROLE regress_pfa_source;
CREATE SERVER pfa_mine FOREIGN DATA WRAPPER pfa_pems OPTIONS (verify_tls 'false');
CREATE SERVER pfa_mine FOREIGN DATA WRAPPER pfa_pems OPTIONS (proxy 'http://p');
CREATE SERVER pfa_mine FOREIGN DATA WRAPPER pfa_pems OPTIONS (ca_file '/ca.pem');
CREATE USER MAPPING FOR CURRENT_USER SERVER pfa_s OPTIONS (password_file '/etc/passwd');
CREATE USER MAPPING FOR CURRENT_USER SERVER pfa_s OPTIONS (api_key_file '/etc/passwd');
SELECT * FROM pfa_test_source('pfa_s');

-- credentials without a statement that holds them
SELECT pfa_set_credentials('pfa_nowhere', 'api', 'Tiger9');
SELECT pfa_set_credentials('pfa_s', 'a:b', 'Tiger9');
SELECT pfa_set_credentials('pfa_s', 'api', '');
SELECT pfa_set_credentials('pfa_s', 'api', NULL);
SELECT pfa_set_credentials('pfa_s', 'api', 'Tiger9');
SELECT umoptions FROM pg_user_mappings WHERE srvname = 'pfa_s';
SELECT pfa_set_credentials('pfa_s', 'api2', 'Lion8');
SELECT umoptions FROM pg_user_mappings WHERE srvname = 'pfa_s';
RESET ROLE;
SELECT server_name, role_name, origin FROM pfa_credential_origin
    WHERE server_name = 'pfa_s';
BEGIN READ ONLY;
SELECT pfa_set_credentials('pfa_s', 'api', 'Tiger9');
ROLLBACK;

-- nobody listens there: an answer, not an error
SET ROLE regress_pfa_source;
SELECT ok, records, latency_ms >= 0 AS timed, message <> '' AS told
    FROM pfa_test_source('pfa_s');
RESET ROLE;

-- a server that is aimed elsewhere does not get the credentials
ALTER SERVER pfa_s OPTIONS (SET base_url 'http://127.0.0.1:2/axis');
SET ROLE regress_pfa_source;
SELECT * FROM pfa_test_source('pfa_s');
SELECT pfa_bind_credentials('pfa_s');
SELECT ok FROM pfa_test_source('pfa_s');
RESET ROLE;
ALTER SERVER pfa_s OPTIONS (SET base_url 'http://127.0.0.1:2/other');
SET ROLE regress_pfa_source;
SELECT ok FROM pfa_test_source('pfa_s');
RESET ROLE;
ALTER SERVER pfa_s OPTIONS (DROP base_url);
SET ROLE regress_pfa_source;
SELECT ok FROM pfa_test_source('pfa_s');
SELECT pfa_set_credentials('pfa_s', 'api', 'Tiger9');

-- a host that no superuser named
CREATE SERVER pfa_mine FOREIGN DATA WRAPPER pfa_pems
    OPTIONS (base_url 'https://pems.invalid');
SELECT pfa_set_credentials('pfa_mine', 'api', 'Tiger9');
SELECT ok FROM pfa_test_source('pfa_mine');

-- the mapping of PUBLIC is bound by the server's owner
CREATE USER MAPPING FOR PUBLIC SERVER pfa_mine OPTIONS (username 'all', password 'Tiger9');
GRANT USAGE ON FOREIGN SERVER pfa_mine TO regress_pfa_other;
SET ROLE regress_pfa_other;
SELECT pfa_bind_credentials('pfa_mine');
SET ROLE regress_pfa_source;
DROP USER MAPPING FOR CURRENT_USER SERVER pfa_mine;
SELECT pfa_bind_credentials('pfa_mine');
RESET ROLE;
SELECT server_name, role_name, origin FROM pfa_credential_origin
    WHERE server_name LIKE 'pfa\_%' ORDER BY 1, 2;

-- a server of another wrapper
CREATE FOREIGN DATA WRAPPER pfa_foreign;
CREATE SERVER pfa_alien FOREIGN DATA WRAPPER pfa_foreign;
SELECT pfa_set_credentials('pfa_alien', 'api', 'Tiger9');
SELECT ok FROM pfa_test_source('pfa_alien');

-- password_file: only a file that nobody else can read
CREATE FUNCTION pg_temp.try_file(path text, how text) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    dir text := current_setting('data_directory');
    ok boolean;
BEGIN
    EXECUTE format('COPY (SELECT 1) TO PROGRAM %L',
                   format('cd %L && rm -rf pfa_secret* && %s', dir, how));
    EXECUTE format('ALTER USER MAPPING FOR CURRENT_USER SERVER pfa_s OPTIONS (SET password_file %L)',
                   dir || '/' || path);
    SELECT t.ok INTO ok FROM pfa_test_source('pfa_s') t;
    RETURN 'loaded';
EXCEPTION WHEN OTHERS THEN
    RETURN replace(replace(sqlerrm, dir, 'DIR'), current_user, 'USER');
END
$$;
ALTER SERVER pfa_s OPTIONS (ADD base_url 'http://127.0.0.1:1/axis');
CREATE USER MAPPING FOR CURRENT_USER SERVER pfa_s OPTIONS (password_file '/none');
SELECT pg_temp.try_file('pfa_secret', 'umask 077; echo Tiger9 > pfa_secret');
ALTER USER MAPPING FOR CURRENT_USER SERVER pfa_s OPTIONS (ADD username 'api');
SELECT pg_temp.try_file(path, how) FROM (VALUES
    (1, 'pfa_secret', 'umask 077; echo Tiger9 > pfa_secret'),
    (2, 'pfa_secret', 'umask 077; echo Tiger9 > pfa_secret_1; ln -s pfa_secret_1 pfa_secret'),
    (3, 'pfa_secret', 'umask 037; echo Tiger9 > pfa_secret'),
    (4, 'pfa_secret', 'umask 077; mkdir pfa_secret'),
    (5, 'pfa_secret', 'umask 077; mkfifo pfa_secret'),
    (6, 'pfa_secret', 'umask 077; echo > pfa_secret'),
    (7, 'pfa_secret', 'umask 077; head -c 4097 /dev/zero > pfa_secret'),
    (8, 'pfa_secret', 'umask 077; head -c 5 /dev/zero > pfa_secret'),
    (9, 'pfa_secret', 'true')) AS t (n, path, how) ORDER BY n;
-- a file gives way to credentials that are set
SELECT pfa_set_credentials('pfa_s', 'api', 'Tiger9');
SELECT option_name FROM information_schema.user_mapping_options
    WHERE foreign_server_name = 'pfa_s'
        AND authorization_identifier = current_user ORDER BY 1;
COPY (SELECT 1) TO PROGRAM 'rm -rf pfa_secret*';

SET client_min_messages = warning;
DELETE FROM pfa_credential_origin WHERE server_name LIKE 'pfa\_%';
DROP SERVER pfa_s CASCADE;
DROP SERVER pfa_mine CASCADE;
DROP FOREIGN DATA WRAPPER pfa_foreign CASCADE;
DROP OWNED BY regress_pfa_source, regress_pfa_other;
DROP ROLE regress_pfa_source, regress_pfa_other;
