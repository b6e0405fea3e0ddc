# Counting: every number against what happened.
#
#  - after syncs that complete, fail in each way there is, are refused or
#    cancelled, the metrics equal sums over pfa_sync_run and what the
#    simulator saw
#  - calls, failed calls and calls under way, a terminated one among them
#  - 32 clients lose no count of a statement
#  - labels are unique, whatever organizations are called and however many
#  - no lock on a table keeps a metric from being read
#  - counters begin at 0 with the server, facts from tables do not
use strict;
use warnings;

use lib "$ENV{PFA_ROOT}/test/perl";
use PfaTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $db = 'postgres';
my $sim = simulator('--orgs', 'RIO:400,LIMA:300,QUITO:200');
my $node = new_server('metrics',
	conf => "pfa_vanguard.max_concurrent_syncs = 4\nmax_connections = 60\nrestart_after_crash = on\n");

add_source($node, $db, $sim, 'pems', "max_retries '1'");
$node->safe_psql($db,
	"SELECT pfa_add_organization(o, 'pems', NULL, '1 day') FROM unnest('{RIO,LIMA}'::text[]) o");
wait_sync($node, $db);

# A run's end is committed first and counted then: wait for its slot to be free.
sub settle
{
	ok(0, 'syncs end') unless wait_for($node, $db,
		q{SELECT sum(value) = 0 FROM pfa_metrics WHERE name = 'pfa_sync_running'});
}

sub sync
{
	my $status = run_sync($node, $db, @_);
	settle();
	return $status;
}

settle();

# Value of a metric; labels as a jsonb text.
sub metric
{
	my ($name, $labels) = @_;
	$labels //= '{}';
	return $node->safe_psql($db,
		"SELECT sum(value) FROM pfa_metrics WHERE name = '$name' AND labels @> '$labels'");
}

# A sum over finished runs.
sub runs
{
	my ($what, $where) = @_;
	return $node->safe_psql($db,
		"SELECT coalesce(sum($what), 0) FROM pfa_sync_run WHERE finished_at IS NOT NULL AND $where");
}

# What happened so far, metric by metric, against the history of runs.
sub agrees
{
	my ($name) = @_;
	my (@got, @expected);

	# What failed is tried again after a while, and must not be just now.
	$node->safe_psql($db, "UPDATE pfa_sync_state SET next_sync_at = now() + '1 day'");
	settle();
	for my $org (qw(RIO LIMA))
	{
		my $label = qq({"organization": "$org"});
		push @got, "$org total " . metric('pfa_sync_operations_total', $label),
		  "$org success " . metric('pfa_sync_operations_success_total', $label),
		  "$org failed " . metric('pfa_sync_operations_failed_total', $label),
		  "$org errors " . metric('pfa_sync_errors_total', $label),
		  "$org calls " . metric('pfa_sync_api_calls_total', $label),
		  "$org retries " . metric('pfa_sync_retries_total', $label),
		  "$org writes " . metric('pfa_sync_db_writes_total', $label);
		push @expected, "$org total " . runs('1', "organization_id = '$org'"),
		  "$org success " . runs('1', "organization_id = '$org' AND status = 'completed'"),
		  "$org failed " . runs('1', "organization_id = '$org' AND status = 'failed'"),
		  "$org errors " . runs('1', "organization_id = '$org' AND status = 'failed'"),
		  "$org calls " . runs('api_calls', "organization_id = '$org'"),
		  "$org retries " . runs('retries', "organization_id = '$org'"),
		  "$org writes " . runs('rows_inserted + rows_updated + rows_deleted', "organization_id = '$org'");
		for my $kind (qw(inserted updated deleted unchanged rejected))
		{
			push @got, "$org $kind "
			  . metric('pfa_sync_rows_total', qq({"organization": "$org", "kind": "$kind"}));
			push @expected, "$org $kind " . runs("rows_$kind", "organization_id = '$org'");
		}
	}
	is_deeply(\@got, \@expected, "$name: metrics are the sums over pfa_sync_run");
}

# ---- syncs ----

is(metric('pfa_sync_rows_total', '{"organization": "RIO", "kind": "inserted"}'), 400,
	'records of the first sync');
is(metric('pfa_sync_duration_seconds_count'), 2, 'two durations');
is(metric('pfa_sync_records_processed_sum'), 700, 'records that were looked at');
cmp_ok(metric('pfa_sync_records_per_second', '{"organization": "RIO"}'), '>', 0, 'a rate');
is( $node->safe_psql($db, q{
	SELECT bool_and(m.value BETWEEN extract(epoch FROM s.last_success_at) - 0.001 AND extract(epoch FROM clock_timestamp()))
	FROM pfa_sync_state s JOIN pfa_metrics m ON m.name = 'pfa_sync_last_success_timestamp_seconds'
		AND m.labels ->> 'organization' = s.organization_id}),
	't', 'time of the last success');
agrees('first sync');

sim($sim, 'delete?org=RIO&count=3');
sim($sim, 'change?org=RIO&count=7');
sim($sim, 'insert?org=RIO&count=2');
is(sync('RIO'), 'completed', 'changes are synced');
is(metric('pfa_sync_rows_total', '{"organization": "RIO", "kind": "updated"}'), 7, 'updated');
is(metric('pfa_sync_rows_total', '{"organization": "RIO", "kind": "deleted"}'), 3, 'deleted');
agrees('changes');

sim($sim, 'fault?kind=status&code=503&org=RIO&count=1');
is(sync('RIO'), 'completed', 'one refusal is tried again');
is(metric('pfa_sync_retries_total', '{"organization": "RIO"}'), 1, 'a retry is counted');
agrees('retry');

sim($sim, 'fault?kind=status&code=503&org=RIO');
is(sync('RIO'), 'failed', 'lasting refusals are not');
is(metric('pfa_sync_errors_total', '{"organization": "RIO", "kind": "network"}'), 1,
	'kind network');
agrees('failure');
sim($sim, 'clear');

sim($sim, 'set?password=other');
is(sync('LIMA'), 'failed', 'wrong password');
is(metric('pfa_sync_errors_total', '{"organization": "LIMA", "kind": "denied"}'), 1,
	'kind denied');
sim($sim, 'set?password=secret');

sim($sim, 'delete?org=LIMA&fraction=0.5');
is(sync('LIMA', 'full'), 'failed', 'half of the records gone');
is(metric('pfa_sync_errors_total', '{"organization": "LIMA", "kind": "guard"}'), 1,
	'kind guard');
is(sync('LIMA', 'force'), 'completed', 'force');
is(metric('pfa_sync_operations_success_total', '{"organization": "LIMA", "mode": "force"}'),
	1, 'mode force');
is(metric('pfa_sync_rows_total', '{"organization": "LIMA", "kind": "deleted"}'), 150,
	'deleted by force');
agrees('guard and force');

# A run under way, and its end by cancel.
sim($sim, 'fault?kind=hang&org=RIO');
my $run = $node->safe_psql($db, "SELECT pfa_sync_now('RIO')");
ok(wait_for($node, $db,
		q{SELECT value = 1 FROM pfa_metrics WHERE name = 'pfa_sync_running' AND labels ->> 'organization' = 'RIO'}),
	'a sync under way is seen');
is($node->safe_psql($db, "SELECT worker FROM pfa_workers WHERE run_id = $run"), 'sync',
	'and its worker');
$node->safe_psql($db, "SELECT pfa_sync_cancel($run)");
is($node->safe_psql($db, "SELECT pfa_sync_wait($run, '60 s')"), 'cancelled', 'it is cancelled');
sim($sim, 'clear');
ok(wait_for($node, $db, q{SELECT sum(value) = 0 FROM pfa_metrics WHERE name = 'pfa_sync_running'}),
	'no sync is under way');
is(metric('pfa_sync_operations_total', '{"organization": "RIO"}')
	  - metric('pfa_sync_operations_success_total', '{"organization": "RIO"}')
	  - metric('pfa_sync_operations_failed_total', '{"organization": "RIO"}'),
	1, 'a cancelled sync is neither');
agrees('cancel');

# A run's seconds are counted after its end has been committed.
is( $node->safe_psql($db, q{
	SELECT busy - history BETWEEN 0 AND 0.5 * n
	FROM (SELECT sum(value)::numeric AS busy FROM pfa_metrics WHERE name = 'pfa_sync_busy_seconds_total') m,
		(SELECT extract(epoch FROM sum(finished_at - started_at)) AS history, count(*) AS n FROM pfa_sync_run) r}),
	't', 'busy seconds are those of the history');

# ---- API ----

my $before = metric('pfa_api_errors_total', '{"endpoint": "pfa_sync_now"}');
for (1 .. 3)
{
	$node->psql($db, "SELECT pfa_sync_now('no such organization')");
}
is(metric('pfa_api_errors_total', '{"endpoint": "pfa_sync_now"}') - $before, 3,
	'calls that fail');
is( metric('pfa_api_request_duration_seconds_count', '{"endpoint": "pfa_sync_now"}'),
	metric('pfa_api_requests_total', '{"endpoint": "pfa_sync_now"}'),
	'each call has a duration');
cmp_ok(metric('pfa_api_response_size_bytes_count', '{"endpoint": "pfa_sync_wait"}'),
	'>', 0, 'and what returns text has a size');

sim($sim, 'fault?kind=hang&org=RIO');
$run = $node->safe_psql($db, "SELECT pfa_sync_now('RIO')");
my $waiter = $node->background_psql($db, on_error_stop => 0);
my $pid = $waiter->query_safe('SELECT pg_backend_pid()');
my $errors = metric('pfa_api_errors_total', '{"endpoint": "pfa_sync_wait"}');
$waiter->query_until(qr/go/, "\\echo go\nSELECT pfa_sync_wait($run);\n");
ok(wait_for($node, $db,
		q{SELECT value = 1 FROM pfa_metrics WHERE name = 'pfa_api_requests_in_flight' AND labels ->> 'endpoint' = 'pfa_sync_wait'}),
	'a call under way is seen');
$node->safe_psql($db, "SELECT pg_terminate_backend($pid)");
ok(wait_for($node, $db,
		q{SELECT sum(value) = 0 FROM pfa_metrics WHERE name = 'pfa_api_requests_in_flight'}),
	'a terminated one is not under way any more');
is(metric('pfa_api_errors_total', '{"endpoint": "pfa_sync_wait"}'), $errors + 1,
	'but an error');
eval { $waiter->quit };
$node->safe_psql($db, "SELECT pfa_sync_cancel($run)");
sim($sim, 'clear');
wait_sync($node, $db);

# ---- statements ----

ok(wait_for($node, $db, q{SELECT count(*) > 5 FROM pfa_metrics_db_relations}),
	'the scheduler told which tables are ours');
my $dir = PostgreSQL::Test::Utils::tempdir();
append_to_file("$dir/count.sql", qq{SELECT count(*) FROM pfa_sync_run WHERE run_id = 1;\n});
append_to_file("$dir/write.sql", q{
\set i random(1, 1000000000)
BEGIN;
INSERT INTO pfa_event_log (level, component, code, message) VALUES ('debug', 'test', 'test', 'x' || :i);
DELETE FROM pfa_event_log WHERE message = 'x' || :i;
END;
});
append_to_file("$dir/foreign.sql", "SELECT count(*) FROM pg_class WHERE oid = 1259;\n");

sub statements { return metric('pfa_db_queries_total') }

my $count = statements();
is(statements(), $count, 'reading metrics is not counted');
$node->command_ok([ 'pgbench', '-n', '-c', '32', '-j', '2', '-t', '250', '-M', 'prepared',
	'-f', "$dir/count.sql", $db ], '32 clients read');
is(statements() - $count, 32 * 250, 'not one statement is lost');
$count = statements();
$node->command_ok([ 'pgbench', '-n', '-c', '32', '-j', '2', '-t', '50',
	'-f', "$dir/write.sql", $db ], '32 clients write');
is(statements() - $count, 32 * 50 * 2, 'not one statement is lost');
is(metric('pfa_db_query_duration_seconds_count'), statements(), 'each has a duration');
$count = statements();
$node->command_ok([ 'pgbench', '-n', '-c', '4', '-t', '100', '-f', "$dir/foreign.sql", $db ],
	'statements on other tables');
is(statements(), $count, 'are not counted');
$node->safe_psql($db, "SET pfa_vanguard.track_statements = off; SELECT count(*) FROM pfa_sync_run");
is(statements(), $count, 'nor is anything with track_statements off');
$node->safe_psql($db, 'EXPLAIN SELECT * FROM pfa_sync_run');
is(statements(), $count, 'nor EXPLAIN');
$node->psql($db, 'SELECT 1 / (run_id - run_id) FROM pfa_sync_run');
is(statements(), $count, 'nor a statement that fails');
$node->safe_psql($db, 'EXPLAIN ANALYZE SELECT * FROM pfa_sync_run');
is(statements(), $count + 1, 'EXPLAIN ANALYZE is');
$node->safe_psql($db, q{
	BEGIN;
	DECLARE c CURSOR FOR SELECT * FROM pfa_sync_run;
	FETCH 1 FROM c; FETCH 1 FROM c;
	SELECT count(*) FROM pfa_organization;
	COMMIT;});
is(statements(), $count + 3, 'a cursor is one statement, and others within are seen');
$node->safe_psql($db, q{
	CREATE FUNCTION nested() RETURNS bigint LANGUAGE plpgsql AS
	'BEGIN PERFORM count(*) FROM pfa_sync_run; RETURN count(*) FROM pfa_organization; END';
	SELECT nested()});
is(statements(), $count + 5, 'statements of a function count for themselves');
$node->safe_psql($db, 'SELECT nested() FROM pfa_organization');
is(statements(), $count + 6, 'but not within a statement that counts');
$node->safe_psql($db, q{
	DO $$ BEGIN
		BEGIN PERFORM 1 / (count(*) - count(*)) FROM pfa_sync_run;
		EXCEPTION WHEN division_by_zero THEN NULL; END;
		PERFORM count(*) FROM pfa_sync_run;
	END $$});
is(statements(), $count + 7, 'an error that is caught leaves nothing behind');

my $slow = metric('pfa_db_slow_queries_total');
$node->safe_psql($db, q{
	SET pfa_vanguard.slow_query_threshold = '1s';
	SELECT pg_sleep(1.5), count(*) FROM pfa_sync_run;
	SELECT count(*) FROM pfa_sync_run;
	SET pfa_vanguard.slow_query_threshold = -1;
	SELECT pg_sleep(1.5), count(*) FROM pfa_sync_run;});
is(metric('pfa_db_slow_queries_total'), $slow + 1, 'a slow statement');
is(metric('pfa_db_relation_slow_queries_total', '{"relation": "pfa_sync_run"}'), $slow + 1,
	'by table');

# ---- connections and tables ----

my $idle = $node->background_psql($db);
my $holder = $node->background_psql($db);
$holder->query_safe('BEGIN; LOCK TABLE pfa_field_mapping');
my $blocked = $node->background_psql($db);
$blocked->query_until(qr/go/, "\\echo go\nSELECT count(*) FROM pfa_field_mapping;\n");
ok(wait_for($node, $db, q{
	SELECT jsonb_object_agg(labels ->> 'state', value) = '{"active": 1, "idle": 1, "idle_in_transaction": 1, "waiting": 1}'
	FROM pfa_metrics WHERE name = 'pfa_db_connections'}), 'connections by state')
  or diag $node->safe_psql($db, q{SELECT * FROM pfa_metrics_db_connections});
is(metric('pfa_db_connections_max'), 57, 'their limit is for ordinary roles');
$holder->query_safe('COMMIT');
$blocked->quit;
$idle->quit;

# sampled by the scheduler, so a moment behind the table
ok(wait_for($node, $db, q{
	SELECT abs(m.value - pg_total_relation_size('pfa_mirror')) <= 65536
	FROM pfa_metrics m WHERE name = 'pfa_db_table_size_bytes' AND labels ->> 'relation' = 'pfa_mirror'}, 90),
	'size of a table');
ok(wait_for($node, $db, q{
	SELECT abs(value - (SELECT count(*) FROM pfa_mirror)) < 50
	FROM pfa_metrics WHERE name = 'pfa_db_table_rows' AND labels ->> 'relation' = 'pfa_mirror'}, 90),
	'rows of a table, roughly');
is( $node->safe_psql($db, q{SELECT count(*) > 0 AND bool_and(value BETWEEN 0 AND 1)
	FROM pfa_metrics WHERE name = 'pfa_db_index_hit_ratio'}), 't', 'index hits are ratios');

# ---- locks ----

$holder->query_safe('BEGIN; ' . lock_our_tables());
for my $view (split /\n/, $node->safe_psql($db,
		q{SELECT relname FROM pg_class WHERE relkind = 'v' AND relname ~ '^pfa_(metrics|alerts|workers)' ORDER BY 1}))
{
	is($node->psql($db, "SET lock_timeout = '10ms'; SELECT * FROM $view"), 0,
		"$view answers though every table is locked");
}
is($node->psql($db, "SET lock_timeout = '10ms'; SELECT pfa_health()"), 0, 'pfa_health too');
$holder->query_safe('COMMIT');
$holder->quit;

# ---- labels ----

$node->append_conf('postgresql.conf', "pfa_vanguard.max_organizations = 4\n");
$node->restart;
# those that are there take their places before others come
wait_for($node, $db, q{SELECT count(*) = 2 FROM pfa_metrics WHERE name = 'pfa_sync_running'});
$node->safe_psql($db, q{
	SELECT pfa_add_organization(o, 'pems', 'RIO', '1 day')
	FROM unnest(ARRAY['other', 'rio', 'QUITO', 'Ñandú "x"', repeat('a', 62) || 'b', repeat('a', 62) || 'c']) o});
ok(wait_for($node, $db, q{
	SELECT count(*) = 5 FROM pfa_metrics WHERE name = 'pfa_sync_running'}),
	'four organizations, and other');
wait_sync($node, $db);
settle();
is( $node->safe_psql($db,
		'SELECT name, labels FROM pfa_metrics GROUP BY 1, 2 HAVING count(*) > 1'),
	'', 'no two series of the same labels');
cmp_ok(metric('pfa_sync_rows_total', '{"organization": "other", "kind": "inserted"}'), '>', 0,
	'other is counted');
is( metric('pfa_sync_rows_total', '{"kind": "inserted"}'),
	$node->safe_psql($db, q{SELECT sum(rows_inserted) FROM pfa_sync_run WHERE organization_id NOT IN ('RIO', 'LIMA')}),
	'and nothing is missing');
is( $node->safe_psql($db, q{SELECT value FROM pfa_metrics WHERE name = 'pfa_metrics_organizations_max'}),
	4, 'the limit is told');

# ---- restarts ----

is(metric('pfa_sync_operations_total', '{"organization": "RIO"}'), 0,
	'counters began at 0 with the server');
cmp_ok(metric('pfa_sync_last_success_timestamp_seconds', '{"organization": "RIO"}'), '>', 1e9,
	'what tables know did not');
my $scheduler = (worker_pids($node, '%scheduler%'))[0];
$node->safe_psql($db, "SELECT pg_terminate_backend($scheduler)");
ok(wait_for($node, $db, q{
	SELECT count(*) = 2 FROM pfa_metrics WHERE (name = 'pfa_worker_restarts_total' OR name = 'pfa_worker_up')
	AND labels ->> 'worker' = 'scheduler' AND value = 1}),
	'a scheduler that was started again');

my $offset = -s $node->logfile;
ok(wait_for($node, $db, q{SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name LIKE 'pfa_vanguard scheduler%'}),
	'it has its name');
kill 'KILL', worker_pids($node, '%scheduler%');
ok($node->wait_for_log(qr/all server processes terminated; reinitializing/, $offset), 'a crash');
ok(wait_for($node, $db, q{
	SELECT value > 1e9 FROM pfa_metrics WHERE name = 'pfa_sync_last_success_timestamp_seconds'
	AND labels ->> 'organization' = 'RIO'}), 'after a crash the facts are back');

$node->safe_psql($db, "SELECT pfa_remove_organization('QUITO')");
ok(wait_for($node, $db, q{
	SELECT count(*) = 0 FROM pfa_metrics WHERE labels ->> 'organization' = 'QUITO'}),
	'a removed organization has no series');
$node->safe_psql($db, 'DROP EXTENSION pfa_vanguard CASCADE; CREATE EXTENSION pfa_vanguard');
ok(wait_for($node, $db, q{
	SELECT count(*) FILTER (WHERE labels ->> 'organization' <> 'other') = 0 AND count(*) FILTER (WHERE labels ? 'relation') > 5 FROM pfa_metrics}),
	'nor do those of an extension that was dropped');

done_testing();
