-- pfa_cache_get, pfa_cache_set, pfa_cache_invalidate: values of an application's
-- own, who may, and what becomes of them.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SERVER pems FOREIGN DATA WRAPPER pfa_pems OPTIONS (base_url 'https://pems.invalid', tenant 'ACME');
INSERT INTO pfa_organization (organization_id, pems_organization, server_name, owner, sync_interval, paused, system_identifier, database_oid)
    SELECT o, o, 'pems', current_user, '1 day', true, 0, 0 FROM unnest('{RIO,"a:b"}'::text[]) o;

-- what is set is there, until it is over
SELECT pfa_cache_get('ai:query:x');
SELECT pfa_cache_set('ai:query:x', '{"sql": "SELECT 1"}', '1 hour');
SELECT pfa_cache_get('ai:query:x');
SELECT pfa_cache_set('ai:query:x', '[1, 2, "three"]', '1 hour');
SELECT pfa_cache_get('ai:query:x');
SELECT pfa_cache_set('short', '1', '1 millisecond');
SELECT pg_sleep(0.01);
SELECT pfa_cache_get('short');
SELECT pfa_cache_set(pfa_ai_cache_key('how many cranes?'), '"few"', '1 hour');
SELECT pfa_cache_get(pfa_ai_cache_key('How many  cranes? '));
-- values of any size that fits
SELECT pfa_cache_set('large', to_jsonb(repeat('x', 200000)), '1 hour');
SELECT length(pfa_cache_get('large') #>> '{}');
SELECT pfa_cache_set('too large', to_jsonb(repeat('x', 10000000)), '1 hour');
SELECT pfa_cache_get('too large');

-- values below an organization's keys go with its next change, others stay
SELECT pfa_cache_set('pfa:RIO:own', '1', '1 hour'), pfa_cache_set('pfa:a%3Ab:own', '2', '1 hour'),
    pfa_cache_set('org:RIO:own', '3', '1 hour');
SELECT pfa_cache_get('pfa:RIO:own'), pfa_cache_get('pfa:a%3Ab:own'), pfa_cache_get('org:RIO:own');
INSERT INTO pfa_mirror (organization_id, data) VALUES ('RIO', '{"pfaId": "1"}');
SELECT pfa_cache_get('pfa:RIO:own'), pfa_cache_get('pfa:a%3Ab:own'), pfa_cache_get('org:RIO:own');
UPDATE pfa_organization SET paused = false WHERE organization_id = 'RIO';
SELECT pfa_cache_get('pfa:RIO:own'), pfa_cache_get('pfa:a%3Ab:own'), pfa_cache_get('org:RIO:own');
-- and none is kept by a transaction that has changed it
BEGIN;
UPDATE pfa_mirror SET data = '{"pfaId": "1", "x": 2}' WHERE organization_id = 'RIO';
SELECT pfa_cache_set('pfa:RIO:own', '1', '1 hour');
COMMIT;
SELECT pfa_cache_get('pfa:RIO:own');

-- patterns
SELECT pfa_cache_set(k, to_jsonb(k), '1 hour') FROM unnest('{p:1,p:2,p:12,q:1,"p:*"}'::text[]) k;
SELECT pfa_cache_invalidate('p:?'), pfa_cache_get('p:1'), pfa_cache_get('p:12'), pfa_cache_get('q:1');
SELECT pfa_cache_invalidate('[a-p]:*'), pfa_cache_get('p:12'), pfa_cache_get('q:1');
SELECT pfa_cache_set('p:*', '1', '1 hour'), pfa_cache_set('p:x', '1', '1 hour');
SELECT pfa_cache_invalidate('p:\*'), pfa_cache_get('p:*'), pfa_cache_get('p:x');
SELECT pfa_cache_invalidate('[^q]:x'), pfa_cache_invalidate('nothing*'), pfa_cache_get('q:1');
SELECT pfa_cache_invalidate('*') > 0, pfa_cache_get('q:1');

-- what the database fills itself nobody else may
SELECT pfa_cache_set('pfa:RIO:data', '{}', '1 hour');
SELECT pfa_cache_set('pfa:RIO:data:0123456789abcdef0123456789abcdef', '{}', '1 hour');
SELECT pfa_cache_set('pfa:RIO:data:user:ann', '{}', '1 hour');
SELECT pfa_cache_set('pfa:RIO:stats', '{}', '1 hour');
SELECT pfa_cache_set('org:RIO:config', '{}', '1 hour');
SELECT pfa_cache_set('user:ann:perms', '{}', '1 hour');
-- but read
SELECT pfa_get('RIO') = pfa_cache_get('pfa:RIO:data') AS same;
SELECT pfa_organization_config('RIO') = pfa_cache_get('org:RIO:config') AS same;

-- bad input
SELECT pfa_cache_set('', '1', '1 hour');
SELECT pfa_cache_set(repeat('k', 801), '1', '1 hour');
SELECT pfa_cache_set('k', '1', '0');
SELECT pfa_cache_set('k', '1', '-1 hour');
SELECT pfa_cache_set('k', '1', '1 year');
SELECT pfa_cache_set(NULL, '1', '1 hour');
SELECT pfa_cache_set('k', NULL, '1 hour');
SELECT pfa_cache_set('k', '1', NULL);
SELECT pfa_cache_get(NULL), pfa_cache_invalidate(NULL);
SELECT pfa_cache_set('pfa:' || repeat('o', 70) || ':x', '1', '1 hour');

-- who may: roles that may speak for users, for users' organizations
CREATE ROLE regress_pfa_api;
CREATE ROLE regress_pfa_other;
INSERT INTO pfa_user_organization (user_id, organization_id, role) VALUES ('ann', 'RIO', 'viewer');
SELECT pfa_cache_set('pfa:RIO:own', '"rio"', '1 hour'), pfa_cache_set('pfa:a%3Ab:own', '"ab"', '1 hour'),
    pfa_cache_set('user:ben:own', '"ben"', '1 hour');
SET ROLE regress_pfa_api;
SELECT pfa_cache_get('x');
RESET ROLE;
GRANT EXECUTE ON FUNCTION pfa_cache_get(text), pfa_cache_set(text, jsonb, interval), pfa_cache_invalidate(text) TO regress_pfa_api, regress_pfa_other;
SET ROLE regress_pfa_other;
SELECT pfa_cache_get('x');
RESET ROLE;
GRANT SET ON PARAMETER pfa_vanguard.user_id TO regress_pfa_api;
SET ROLE regress_pfa_api;
BEGIN;
SET LOCAL pfa_vanguard.user_id = 'ann';
SELECT pfa_cache_get('x'), pfa_cache_get('pfa:RIO:own');
SAVEPOINT s;
SELECT pfa_cache_get('pfa:a%3Ab:own');
ROLLBACK TO s;
SELECT pfa_cache_set('pfa:a%3Ab:own', '1', '1 hour');
ROLLBACK TO s;
SELECT pfa_cache_get('user:ben:own');
ROLLBACK TO s;
SELECT pfa_cache_get('pfa:RIO:data:user:ben');
ROLLBACK TO s;
SELECT pfa_cache_invalidate('*');
ROLLBACK TO s;
SELECT pfa_cache_invalidate('pfa:*:own');
ROLLBACK TO s;
SELECT pfa_cache_invalidate('pfa:a%3Ab:*');
ROLLBACK TO s;
SELECT pfa_cache_invalidate('user:ben:*');
ROLLBACK TO s;
SELECT pfa_cache_invalidate('pfa:RIO:*') > 0, pfa_cache_get('pfa:RIO:own');
COMMIT;
RESET ROLE;
SELECT pfa_cache_get('pfa:a%3Ab:own'), pfa_cache_get('user:ben:own');

-- settings that hold secrets or addresses are the superuser's
SET ROLE regress_pfa_api;
SHOW pfa_vanguard.redis_url;
SHOW pfa_vanguard.redis_password_file;
SET pfa_vanguard.cache_backend = off;
SET pfa_vanguard.redis_key_prefix = 'x';
RESET ROLE;
ALTER SYSTEM SET pfa_vanguard.redis_url = 'rediss://localhost';
ALTER SYSTEM SET pfa_vanguard.redis_url = 'http://localhost';
ALTER SYSTEM SET pfa_vanguard.redis_url = 'redis://';
ALTER SYSTEM SET pfa_vanguard.redis_url = 'redis://h:99999';
ALTER SYSTEM SET pfa_vanguard.redis_url = 'redis://h/x';
ALTER SYSTEM SET pfa_vanguard.redis_url = 'unix://relative';

-- off: nothing is found, nothing kept
SET pfa_vanguard.cache_backend = off;
SELECT pfa_cache_set('k', '1', '1 hour'), pfa_cache_get('k'), pfa_cache_invalidate('*');
SELECT DISTINCT backend, up FROM pfa_cache_stats;
RESET pfa_vanguard.cache_backend;
SELECT keyspace, hits > 0 AS hits, misses > 0 AS misses, fills > 0 AS fills, size_bytes > 0 AS size,
    max_bytes > 0 AS max, entries > 0 AS entries, too_large > 0 AS too_large, bypasses >= 0 AS bypasses
    FROM pfa_cache_stats WHERE keyspace IN ('ai', 'other', 'all') ORDER BY keyspace;

DELETE FROM pfa_organization;
TRUNCATE pfa_mirror;
TRUNCATE pfa_user_organization;
DROP SERVER pems;
REVOKE ALL ON FUNCTION pfa_cache_get(text), pfa_cache_set(text, jsonb, interval), pfa_cache_invalidate(text) FROM regress_pfa_api, regress_pfa_other;
REVOKE SET ON PARAMETER pfa_vanguard.user_id FROM regress_pfa_api;
DROP ROLE regress_pfa_api, regress_pfa_other;
