# Events, alerts, health.
#
#  - an error in a transaction that is rolled back arrives in pfa_error_log
#  - the same error many times is one row that says how often
#  - what the ring cannot hold is counted, and nobody waits
#  - old events go
#  - the server log has a line each, and no secret is anywhere
#  - an alert begins, is told by NOTIFY, and ends
#  - pfa_health answers whatever is wrong, and without preloading
use strict;
use warnings;

use lib "$ENV{PFA_ROOT}/test/perl";
use PfaTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $db = 'postgres';
my $sim = simulator('--orgs', 'RIO:200,LIMA:100', '--bad', '2');
my $node = new_server('events', conf => "log_destination = 'jsonlog'\nlogging_collector = on\n");

add_source($node, $db, $sim, 'pems', "max_retries '0'");
$node->safe_psql($db,
	"SELECT pfa_add_organization(o, 'pems', NULL, '1 day') FROM unnest('{RIO,LIMA}'::text[]) o");
wait_sync($node, $db);

sub health
{
	return $node->safe_psql($db, 'SELECT ' . ($_[0] // q{pfa_health() ->> 'status'}));
}

# ---- errors of users ----

$node->psql($db, q{BEGIN; SELECT pfa_sync_now('no such organization'); COMMIT});
ok(wait_for($node, $db, q{
	SELECT count(*) = 1 FROM pfa_error_log
	WHERE component = 'api' AND context ->> 'endpoint' = 'pfa_sync_now'
	AND context ->> 'sqlstate' = '42704' AND message LIKE '%no such organization%'}),
	'an error of a transaction that was rolled back is kept');
$node->psql($db, q{SELECT pfa_sync_now('no such organization')}) for 1 .. 30;
ok(wait_for($node, $db, q{SELECT max(repeats) = 31 AND count(*) = 1 FROM pfa_error_log WHERE component = 'api'}),
	'one row says how often it happened')
  or diag $node->safe_psql($db, 'SELECT * FROM pfa_error_log');

# The ring holds 512: the scheduler is kept from its table meanwhile.
$node->safe_psql($db, q{
	BEGIN;
	LOCK TABLE pfa_event_log;
	DO $$ BEGIN
		FOR i IN 1 .. 700 LOOP
			BEGIN PERFORM pfa_sync_now('none' || i); EXCEPTION WHEN OTHERS THEN NULL; END;
		END LOOP;
	END $$;
	COMMIT});
pass('who posts more than the ring holds does not wait');
my $dropped = $node->safe_psql($db,
	q{SELECT value FROM pfa_metrics WHERE name = 'pfa_metrics_events_dropped_total'});
cmp_ok($dropped, '>', 0, 'what finds no place is counted');
is(health(q{pfa_health() #>> '{checks,events,status}'}), 'degraded', 'and is no secret');
ok(wait_for($node, $db, qq{
	SELECT count(*) + $dropped = 700 FROM pfa_error_log WHERE message LIKE '%"none%'}),
	'the others arrive, none twice')
  or diag $node->safe_psql($db, q{SELECT count(*) FROM pfa_error_log WHERE message LIKE '%"none%'}) . " and $dropped";
is( $node->safe_psql($db, q{SELECT value FROM pfa_metrics WHERE name = 'pfa_events_total' AND labels ->> 'level' = 'error'}),
	731, 'each is counted');

# ---- slow statements ----

$node->safe_psql($db, q{
	SET pfa_vanguard.slow_query_threshold = '50ms';
	SELECT pg_sleep(0.1) FROM pfa_organization WHERE organization_id = 'RIO' AND 'canary' <> ''});
ok(wait_for($node, $db, q{
	SELECT count(*) = 1 FROM pfa_event_log WHERE code = 'slow_statement'
	AND context ->> 'relation' = 'pfa_organization' AND (context ->> 'seconds')::float8 >= 0.1}),
	'a slow statement is an event');
is($node->safe_psql($db, q{SELECT count(*) FROM pfa_event_log WHERE pfa_event_log::text LIKE '%canary%'}),
	0, 'without its text');

# ---- retention ----

$node->safe_psql($db, q{
	INSERT INTO pfa_event_log (logged_at, level, component, code, message)
	SELECT now() - '91 days'::interval, 'info', 'test', 'old', 'old' FROM generate_series(1, 2500);
	INSERT INTO pfa_event_log (logged_at, level, component, code, message)
	VALUES (now() - '89 days'::interval, 'info', 'test', 'young', 'young')});
$node->restart;
ok(wait_for($node, $db, q{SELECT count(*) = 1 AND min(code) = 'young' FROM pfa_event_log WHERE code IN ('old', 'young')}),
	'events older than event_retention go, batch by batch');

# ---- alerts and health ----

my $listener = $node->background_psql($db);
$listener->query_safe('LISTEN pfa_alert');
sim($sim, 'fault?kind=status&code=500&org=RIO');
is(run_sync($node, $db, 'RIO'), 'failed', 'a sync fails');
ok(wait_for($node, $db, q{
	SELECT count(*) = 1 FROM pfa_alerts WHERE alert = 'PfaSyncFailureRateHigh'
	AND organization_id = 'RIO' AND state = 'pending' AND value > 0.2}),
	'the failure rate is high, but not for long enough to alert')
  or diag $node->safe_psql($db, 'SELECT * FROM pfa_alerts');
is(health(q{pfa_health() #>> '{checks,sync,status}'}), 'degraded', 'a failing organization degrades health');
cmp_ok($node->safe_psql($db, q{SELECT count(*) FROM pfa_error_log WHERE organization_id = 'RIO' AND code = 'sync_failed'}),
	'>=', 1, 'the failure is an event');
sim($sim, 'clear');

# More than 100 slow statements fire at once.
$node->safe_psql($db, q{
	SET pfa_vanguard.slow_query_threshold = 0;
	DO $$ BEGIN FOR i IN 1 .. 120 LOOP PERFORM count(*) FROM pfa_organization; END LOOP; END $$});
ok(wait_for($node, $db, q{
	SELECT count(*) = 1 FROM pfa_alerts WHERE alert = 'PfaDbSlowQueries' AND state = 'firing' AND value >= 120}),
	'an alert fires');
# the alert shows a moment before the transaction that tells of it commits
my $told = '';
for (1 .. 300)
{
	$told .= $listener->query_safe('SELECT 1');
	last if $told =~ /PfaDbSlowQueries/;
	usleep(100_000);
}
like($told,
	qr/Asynchronous notification "pfa_alert" with payload .*"alert": "PfaDbSlowQueries", "severity": "warning", "state": "firing"/,
	'and is told');
is( $node->safe_psql($db, q{SELECT count(*) FROM pfa_event_log WHERE code = 'alert_firing' AND message LIKE 'PfaDbSlowQueries%'}),
	1, 'once');
like(health(q{pfa_health() #>> '{checks,alerts,message}'}), qr/firing/, 'health knows of it');

# A new server has counted nothing, so what it fired for is over.
$node->restart;
ok(wait_for($node, $db, q{SELECT count(*) = 0 FROM pfa_alerts WHERE alert = 'PfaDbSlowQueries'}), 'it ends');
$listener = undef;

is(run_sync($node, $db, 'RIO'), 'completed', 'a sync completes');
ok(wait_for($node, $db, q{SELECT pfa_health() #>> '{checks,sync,status}' = 'ok'}), 'health recovers');

$node->append_conf('postgresql.conf', "pfa_vanguard.enabled = off\n");
$node->reload;
ok(wait_for($node, $db, q{SELECT pfa_health() #>> '{checks,sync,message}' = 'pfa_vanguard.enabled is off'}),
	'health tells that syncing is switched off');
$node->append_conf('postgresql.conf', "pfa_vanguard.enabled = on\n");

# ---- the server log ----

my @lines = split /\n/, join '', map { slurp_file($_) } glob($node->data_dir . '/log/*.json');
my @failed = grep { /sync_failed/ && /component sync/ } @lines;
cmp_ok(scalar(@failed), '>=', 1, 'a failed sync has a line in the log');
like($failed[0], qr/"detail":"component sync, event sync_failed, organization \\"RIO\\", run \d+\."/,
	'with where and what, fit for jsonlog');
is(scalar(grep { /secret/ && !/CREATE USER MAPPING/ } @lines), 0, 'and no secret');
is( $node->safe_psql($db, q{SELECT count(*) FROM pfa_event_log WHERE pfa_event_log::text LIKE '%secret%'}),
	0, 'nor is one among the events');

# ---- a monitor's rights ----

$node->safe_psql($db, q{
	CREATE ROLE watcher LOGIN;
	SET client_min_messages = error;
	SELECT pfa_grant_access('watcher', 'monitor')});
for my $what (split /\n/, $node->safe_psql($db,
		q{SELECT relname FROM pg_class WHERE relkind = 'v' AND relname ~ '^pfa_(metrics|alerts|workers)'}),
	'pfa_sync_status')
{
	is($node->psql($db, "SELECT * FROM $what", extra_params => [ '-U', 'watcher' ]), 0,
		"level monitor reads $what");
}
is($node->psql($db, 'SELECT pfa_health()', extra_params => [ '-U', 'watcher' ]), 0, 'and calls pfa_health');
isnt($node->psql($db, 'SELECT * FROM pfa_error_log', extra_params => [ '-U', 'watcher' ]), 0,
	'but sees no messages');

# ---- without preloading ----

my $bare = new_server('bare', preload => 0);
is($bare->safe_psql($db, q{SELECT pfa_health() ->> 'status'}), 'degraded', 'health without preloading');
is($bare->safe_psql($db, q{SELECT count(*) FROM pfa_metrics WHERE name NOT LIKE 'pfa_db%'}), 0,
	'and no numbers that are not known');
is($bare->safe_psql($db, q{SELECT count(*) FROM pfa_workers}), 0, 'and no workers');

done_testing();
