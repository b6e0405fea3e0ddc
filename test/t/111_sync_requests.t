# Requests of several sessions at a time, where no worker interferes (workers
# leave template databases alone), and calls where they cannot do their work:
#  1. Of two requests for one organization the second waits for the first, and
#     has its run, or one of its own if the first is rolled back.
#  2. A pause comes before a request or after it, never in between.
#  3. Requests for all organizations do not deadlock with each other.
#  4. A run that is being cancelled by another transaction is not cancelled twice.
#  5. A wait for several runs returns the worst end.
#  6. On a standby requests are refused, waits and status work.
use strict;
use warnings;

use lib 'test/perl';
use PfaTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('requests', init => { allows_streaming => 1 }, extension => 0);
my $db = 'quiet';

$node->safe_psql('postgres', 'CREATE DATABASE quiet');
$node->safe_psql('postgres', 'ALTER DATABASE quiet IS_TEMPLATE true');
$node->safe_psql($db, q{
	CREATE EXTENSION pfa_vanguard;
	SET client_min_messages = error;
	CREATE SERVER pems FOREIGN DATA WRAPPER pfa_pems OPTIONS (base_url 'http://127.0.0.1:1', tenant 'ACME');
	CREATE USER MAPPING FOR CURRENT_USER SERVER pems OPTIONS (username 'api', password 'secret');
	SELECT pfa_add_organization('ORG' || i, 'pems') FROM generate_series(1, 20) i;
});

my $s1 = session($node, $db);
my $s2 = session($node, $db);
my $backend = $s2->backend;

# Until the second session waits for a lock.
sub second_waits
{
	my ($name) = @_;
	ok(wait_for($node, $db,
			"SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $backend"),
		"$name: the second waits");
}

# ---- 1 ----

$s1->run('BEGIN');
my $first = $s1->run("SELECT pfa_sync_now('ORG1')");
$s2->start("SELECT pfa_sync_now('ORG1', 'full')");
second_waits('two requests');
$s1->run('COMMIT');
is($s2->result, $first, 'two requests: one run');
is(value($node, $db, "SELECT mode FROM pfa_sync_run WHERE run_id = $first"), 'full',
	'in the stronger mode');

$s1->run('BEGIN');
$first = $s1->run("SELECT pfa_sync_now('ORG2')");
$s2->start("SELECT pfa_sync_now('ORG2')");
second_waits('a request that is rolled back');
$s1->run('ROLLBACK');
my $second = $s2->result;
isnt($second, $first, 'a request that is rolled back: the second has a run of its own');
is(value($node, $db, "SELECT run_id FROM pfa_sync_run WHERE organization_id = 'ORG2'"),
	$second, 'the only one');

$s1->run('BEGIN ISOLATION LEVEL REPEATABLE READ');
$s1->run('SELECT count(*) FROM pfa_sync_run');
$s2->run("SELECT pfa_sync_now('ORG3')");
like($s1->run("SELECT pfa_sync_now('ORG3')"), qr/could not serialize access/,
	'a snapshot that does not see the run: an error, not a second run');
$s1->run('ROLLBACK');

# ---- 2 ----

$s1->run('BEGIN');
$s1->run("SELECT pfa_pause_organization('ORG4')");
$s2->start("SELECT pfa_sync_now('ORG4')");
second_waits('pause and request');
$s1->run('COMMIT');
like($s2->result, qr/organization "ORG4" is paused/, 'pause and request: refused');

$s1->run('BEGIN');
$first = $s1->run("SELECT pfa_sync_now('ORG5')");
$s2->start("SELECT pfa_pause_organization('ORG5')");
second_waits('request and pause');
$s1->run('COMMIT');
$s2->result;
is(value($node, $db, "SELECT status FROM pfa_sync_run WHERE run_id = $first"), 'cancelled',
	'request and pause: cancelled');

$s1->run('BEGIN');
$s1->run("SELECT pfa_remove_organization('ORG6')");
$s2->start("SELECT pfa_sync_now('ORG6')");
second_waits('removal and request');
$s1->run('COMMIT');
like($s2->result, qr/organization "ORG6" does not exist/, 'removal and request: refused');

$s1->run('BEGIN');
$s1->run("SELECT pfa_remove_organization('ORG7')");
$s2->start('SELECT count(*) FROM pfa_sync_now()');
second_waits('removal and request for all');
$s1->run('COMMIT');
is($s2->result, '16', 'removal and request for all: left out, as paused ones are');

# ---- 3 ----

$node->safe_psql($db, 'SELECT pfa_sync_cancel(run_id) FROM pfa_sync_run');
for (1 .. 20)
{
	$s1->start('BEGIN; SELECT count(*) FROM pfa_sync_now(); COMMIT');
	$s2->start("BEGIN; SELECT count(*) FROM pfa_sync_now(NULL, 'full'); COMMIT");
	my @results = ($s1->result, $s2->result);
	is("@results", '16 16', "requests for all in two sessions, $_") if $_ == 1 or "@results" ne '16 16';
	$node->safe_psql($db, 'SELECT pfa_sync_cancel(run_id) FROM pfa_sync_run') if $_ % 5 == 0;
}
is(value($node, $db, "SELECT count(*) - count(DISTINCT organization_id) FROM pfa_sync_run
	WHERE status = 'queued'"), '0', 'never two of one organization');

# ---- 4 ----

$first = value($node, $db, "SELECT pfa_sync_now('ORG1')");
$s1->run('BEGIN');
is($s1->run("SELECT pfa_sync_cancel($first)"), 't', 'cancelled, not committed');
like($s2->run("SELECT pfa_sync_cancel($first)"), qr/could not cancel sync run $first/,
	'another one cannot say yet');
$s1->run('COMMIT');
is($s2->run("SELECT pfa_sync_cancel($first)"), 'f', 'now it can');

# ---- 5 ----

$node->safe_psql($db, 'SELECT pfa_sync_cancel(run_id) FROM pfa_sync_run');
is(value($node, $db, 'SELECT pfa_sync_wait() IS NULL'), 't', 'nothing to wait for');
for my $ends ([qw(completed completed)], [qw(cancelled completed)], [qw(failed cancelled)],
	[qw(completed failed)])
{
	my ($worst) = grep { my $e = $_; grep { $_ eq $e } @$ends } qw(failed cancelled completed);

	$node->safe_psql($db, "INSERT INTO pfa_sync_run (organization_id, mode) VALUES ('A', 'full'), ('B', 'full')");
	$s2->start('SELECT pfa_sync_wait()');
	ok(wait_for($node, $db, "SELECT wait_event_type = 'Extension' FROM pg_stat_activity WHERE pid = $backend"),
		'somebody waits for two runs');
	$node->safe_psql($db, "UPDATE pfa_sync_run SET status = '$ends->[0]' WHERE organization_id = 'A' AND status = 'queued'");
	$node->safe_psql($db, "UPDATE pfa_sync_run SET status = '$ends->[1]' WHERE organization_id = 'B' AND status = 'queued'");
	is($s2->result, $worst, "of @$ends the worst is $worst");
}

# ---- 6 ----

$first = value($node, $db, "SELECT pfa_sync_now('ORG1')");
$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
for my $call ("SELECT pfa_sync_now('ORG1')", "CALL pfa_sync('ORG1')", "SELECT pfa_sync_cancel($first)")
{
	my ($rc, $out, $err) = $standby->psql($db, $call);
	like($err, qr/ERROR:  cannot execute .*during recovery\nHINT:  Syncs run on the primary/,
		"standby: $call");
}
is( value($standby, $db, "SELECT state, reason FROM pfa_sync_status WHERE organization_id = 'ORG1'"),
	'queued|this server is a standby, syncs run on the primary', 'standby: status');
is(value($standby, $db, "SELECT pfa_sync_wait($first, '10 ms')"), 'timeout', 'standby: wait');
my $waiting = session($standby, $db);
$waiting->start("SELECT pfa_sync_wait($first)");
$node->safe_psql($db, "SELECT pfa_sync_cancel($first)");
is($waiting->result, 'cancelled', 'standby: the end arrives by replication');
$waiting->close;
$_->close for $s1, $s2;
$standby->stop;
$node->stop;

done_testing();
