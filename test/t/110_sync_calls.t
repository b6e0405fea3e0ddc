# The calls that begin, follow and end syncs, against the simulator:
#  1. pfa_sync_now gives run ids, pfa_sync_wait the worst end of several, and
#     the mirror then equals PEMS.
#  2. pfa_sync_cancel ends a run within a second, in the queue and in the middle
#     of a download; a cancelled queued run never starts.
#  3. A wait ends at its timeout, at a statement timeout, and with the run even
#     in a transaction whose snapshot is older; it does not stand in the way of
#     DROP EXTENSION.
#  4. CALL pfa_sync tells of its progress, holds no transaction while it waits
#     for PEMS, and obeys cancel, termination, timeouts and the switch within a
#     second; an organization is never synced twice at a time.
#  5. pfa_sync_status says what runs, how far it is, and why the rest does not.
use strict;
use warnings;

use lib 'test/perl';
use IPC::Run ();
use PfaTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $db = 'postgres';
my $sim = simulator('--orgs', 'RIO:6000,LIMA:3000,QUITO:500');
my $node = new_server('calls', conf => "pfa_vanguard.max_concurrent_syncs = 2\n");

add_source($node, $db, $sim, 'pems', "page_size '1000'");
$node->safe_psql($db,
	"SELECT pfa_add_organization(o, 'pems', sync_interval => '1 day')
	 FROM unnest('{RIO,LIMA,QUITO}'::text[]) o");

# ---- helpers ----

# A statement in a session of its own, in the background.
sub start_sql
{
	my ($server, @sql) = @_;
	my %session = (out => '', err => '');

	$session{handle} = IPC::Run::start(
		[
			'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d',
			$server->connstr($db) . ' application_name=background',
			map { ('-c', $_) } @sql
		],
		'<', \undef, '>', \$session{out}, '2>', \$session{err});
	return \%session;
}

# A session that is there already, so that what is measured is not its start.
my $control;
sub control
{
	my ($server) = @_;
	$control->quit if defined $control;
	$control = $server->background_psql($db);
}

# When a backend has ended its statement, by the server's clock; a new psql
# takes longer to start than most of what is measured here.  What the machine
# stood still is taken off.
sub server_time
{
	return $control->query_safe('SELECT extract(epoch FROM clock_timestamp())') - stalled();
}

sub time_of_end
{
	my ($backend) = @_;
	for (1 .. 6000)
	{
		my $ended = $control->query_safe(
			"SELECT extract(epoch FROM clock_timestamp()) WHERE NOT EXISTS
			 (SELECT FROM pg_stat_activity WHERE pid = $backend AND state = 'active')");
		return $ended - stalled() if $ended ne '';
		usleep(10_000);
	}
	die 'statement does not end';
}

sub finish_sql
{
	my ($session) = @_;
	$session->{handle}->finish;
}

# The backend of the session that runs a CALL pfa_sync.
sub call_pid
{
	my ($server) = @_;
	wait_for($server, $db,
		"SELECT count(*) = 1 FROM pg_stat_activity
		 WHERE application_name = 'background' AND query LIKE 'CALL pfa_sync%'
			AND state = 'active'", 30)
	  or die 'CALL does not run';
	return value($server, $db,
		"SELECT pid FROM pg_stat_activity WHERE application_name = 'background'
		 AND query LIKE 'CALL pfa_sync%' AND state = 'active'");
}

sub state_is
{
	my ($org, $state, $name) = @_;
	ok(wait_for($node, $db,
			"SELECT state FROM pfa_sync_status WHERE organization_id = '$org'",
			30, $state), $name);
}

sub reason
{
	my ($org) = @_;
	return value($node, $db,
		"SELECT coalesce(reason, '') FROM pfa_sync_status WHERE organization_id = '$org'");
}

# Have requests for an organization hang, and wait until the simulator has one.
sub in_download
{
	my ($org, $begin) = @_;
	sim($sim, "fault?kind=hang&org=$org");
	my $result = $begin->();
	state_is($org, 'running', "$org: a sync runs");
	for (1 .. 300)
	{
		my $log = sim($sim, 'log?n=20');
		last if $log =~ /$org/;
		usleep(50_000);
	}
	return $result;
}

control($node);

# ---- 1 ----

ok(wait_for($node, $db,
		"SELECT count(*) = 3 FROM pfa_sync_status WHERE last_success_at IS NOT NULL"),
	'first syncs complete');
sim($sim, 'fault?kind=latency&ms=500');
is(value($node, $db, "SELECT count(*) FROM pfa_sync_now(NULL, 'full')"), '3',
	'an id an organization');
is(wait_sync($node, $db), 'completed', 'all are waited for');
sim($sim, 'clear');
compare($node, $db, $sim, $_, "after pfa_sync_now: $_") for qw(RIO LIMA QUITO);
sim($sim, 'change?org=RIO&count=7');
sim($sim, 'delete?org=RIO&count=3');
sim($sim, 'insert?org=RIO&count=5');
is(run_sync($node, $db, 'RIO', 'full'), 'completed', 'one organization');
compare($node, $db, $sim, 'RIO', 'after changes');
is( value($node, $db,
		"SELECT rows_updated, rows_deleted, rows_inserted FROM pfa_sync_run ORDER BY run_id DESC LIMIT 1"),
	'7|3|5', 'and its run says what changed');
is( value($node, $db,
		"SELECT state, reason, phase, rows_seen = rows_total, percent, eta, last_error,
			next_sync_at > now() FROM pfa_sync_status WHERE organization_id = 'RIO'"),
	'idle|waiting until it is due||t|100|||t', 'status of an idle organization');

# the worst of several
$node->safe_psql($db, "ALTER SERVER pems OPTIONS (ADD max_retries '0')");
sim($sim, 'fault?kind=status&code=500&org=LIMA');
sim($sim, 'fault?kind=latency&ms=500');
is(sync_all($node, $db), 'failed', 'one failed among others: failed');
state_is('LIMA', 'backoff', 'after a failure');
is(reason('LIMA'), 'the last sync failed', 'and why');
like(value($node, $db, "SELECT last_error FROM pfa_sync_status WHERE organization_id = 'LIMA'"),
	qr/PEMS/, 'last error');
sim($sim, 'clear');
$node->safe_psql($db, "ALTER SERVER pems OPTIONS (DROP max_retries)");
is(run_sync($node, $db, 'LIMA'), 'completed', 'and then it succeeds');
is(value($node, $db, "SELECT last_error FROM pfa_sync_status WHERE organization_id = 'LIMA'"),
	'', 'no error is left');

# ---- 2 ----

my $run = in_download('RIO', sub { value($node, $db, "SELECT pfa_sync_now('RIO', 'full')") });
my $waiting = start_sql($node, "SELECT pfa_sync_wait($run)");
my $old_snapshot = start_sql($node, 'BEGIN ISOLATION LEVEL REPEATABLE READ',
	'SELECT count(*) FROM pfa_sync_run', "SELECT pfa_sync_wait($run)", 'COMMIT');
wait_for($node, $db, "SELECT count(*) = 2 FROM pg_stat_activity
	WHERE application_name = 'background' AND query LIKE 'SELECT pfa_sync_wait%'");
my $before = server_time();
is($control->query_safe("SELECT pfa_sync_cancel($run)"), 't', 'cancelled in mid-download');
my $took = server_time() - $before;
cmp_ok($took, '<', 1, "the call took $took s");
is(value($node, $db, "SELECT status FROM pfa_sync_run WHERE run_id = $run"),
	'cancelled', 'and the run has ended by then');
$took = value($node, $db,
	"SELECT extract(epoch FROM finished_at) - $before FROM pfa_sync_run WHERE run_id = $run") - stalled();
cmp_ok($took, '<', 1, "within $took s");
finish_sql($waiting);
is($waiting->{out}, "cancelled\n", 'who waited for it knows');
finish_sql($old_snapshot);
like($old_snapshot->{out}, qr/^cancelled$/m, 'also with an older snapshot');
is(value($node, $db, "SELECT pfa_sync_cancel($run)"), 'f', 'it cannot be cancelled twice');
sim($sim, 'clear');
is(value($node, $db, "SELECT pfa_sync_wait($run)"), 'cancelled', 'it stays cancelled');

# drip: bytes arrive all the time
sim($sim, 'fault?kind=drip&n=50&ms=20&org=RIO');
$run = value($node, $db, "SELECT pfa_sync_now('RIO', 'full')");
state_is('RIO', 'running', 'a slow download');
$before = server_time();
is($control->query_safe("SELECT pfa_sync_cancel($run)"), 't', 'cancelled while bytes drip');
$took = server_time() - $before;
cmp_ok($took, '<', 1, "within $took s");
is(value($node, $db, "SELECT pfa_sync_wait($run, '60 s')"), 'cancelled', 'and then it has ended');
sim($sim, 'clear');

# in the queue
setting($node, 'pfa_vanguard.max_concurrent_syncs', 1);
in_download('RIO', sub { $node->safe_psql($db, "SELECT pfa_sync_now('RIO', 'full')") });
$run = value($node, $db, "SELECT pfa_sync_now('LIMA')");
state_is('LIMA', 'queued', 'no worker is free');
ok(wait_for($node, $db, "SELECT reason FROM pfa_sync_status WHERE organization_id = 'LIMA'",
		30, 'waiting for a worker slot'), 'and it says so');
is(value($node, $db, "SELECT pfa_sync_wait($run, '100 ms')"), 'timeout', 'waiting ends');
is(value($node, $db, "SELECT pfa_sync_wait(NULL, '0')"), 'timeout', 'for all of them');
is(value($node, $db, "SELECT pfa_sync_cancel($run)"), 't', 'a queued run is cancelled');
my ($other) = split /\n/, value($node, $db, "SELECT run_id FROM pfa_sync_run WHERE status = 'running'");
sim($sim, 'clear');
is(value($node, $db, "SELECT pfa_sync_wait($other, '60 s')"), 'completed', 'the other one completes');
is(value($node, $db, "SELECT status, started_at IS NULL FROM pfa_sync_run WHERE run_id = $run"),
	'cancelled|t', 'and the cancelled one never started');
setting($node, 'pfa_vanguard.max_concurrent_syncs', 2);

# ---- 5 ----

# live progress
sim($sim, 'fault?kind=hang&after=1000&org=RIO');
$run = value($node, $db, "SELECT pfa_sync_now('RIO', 'full')");
my $seen = "SELECT rows_seen > 0 AND rows_seen < rows_total AND percent BETWEEN 1 AND 99
	AND rows_per_second > 0 AND eta > '0' AND phase = 'reading' AND state = 'running'
	AND (SELECT r.rows_seen = 0 FROM pfa_sync_run r WHERE r.run_id = s.run_id)
	FROM pfa_sync_status s WHERE organization_id = 'RIO'";
ok(wait_for($node, $db, $seen, 30), 'progress of a running sync shows, without updates of tables');
sim($sim, 'clear');
is(value($node, $db, "SELECT pfa_sync_wait($run, '60 s')"), 'completed', 'it completes');

# PEMS asks to wait
sim($sim, 'fault?kind=status&code=429&retry_after=30&org=QUITO');
$run = value($node, $db, "SELECT pfa_sync_now('QUITO')");
state_is('QUITO', 'waiting', 'PEMS asked to wait');
like(reason('QUITO'), qr/^PEMS asked to wait, \d+ s are left$/, 'and it says so');
sim($sim, 'clear');
is(value($node, $db, "SELECT pfa_sync_cancel($run)"), 't', 'cancelled while it waits');
is(value($node, $db, "SELECT pfa_sync_wait($run, '60 s')"), 'cancelled', 'and then it has ended');

# paused; switched off
$node->safe_psql($db, "SELECT pfa_pause_organization('QUITO')");
state_is('QUITO', 'paused', 'paused');
is(value($node, $db, 'SELECT count(*) FROM pfa_sync_now()'), '2', 'paused ones are left out');
wait_sync($node, $db);
$node->safe_psql($db, "SELECT pfa_resume_organization('QUITO')");
setting($node, 'pfa_vanguard.enabled', 'off');
ok(wait_for($node, $db, "SELECT bool_and(state = 'paused' AND reason = 'switched off by pfa_vanguard.enabled')
	FROM pfa_sync_status"), 'switched off');
my ($rc, $out, $err) = $node->psql($db, "SELECT pfa_sync_now('RIO')");
like($err, qr/NOTICE:.*pfa_vanguard.enabled/, 'a request is told that it has to wait');
is(value($node, $db, "SELECT state, reason FROM pfa_sync_status WHERE organization_id = 'RIO'"),
	'queued|switched off by pfa_vanguard.enabled', 'its state');
setting($node, 'pfa_vanguard.enabled', 'on');
ok(wait_for($node, $db, "SELECT count(*) = 0 FROM pfa_sync_run WHERE status IN ('queued', 'running')"),
	'and goes on when it is switched on');

# ---- 4, with workers ----

($rc, $out, $err) = $node->psql($db, 'CALL pfa_sync()');
is($rc, 0, 'CALL pfa_sync()');
like($err, qr/NOTICE:  organization "$_": full sync completed/, "$_ in the foreground")
  for qw(RIO LIMA QUITO);
compare($node, $db, $sim, 'RIO', 'in the foreground');
sim($sim, 'fault?kind=latency&ms=700&org=RIO');
($rc, $out, $err) = $node->psql($db, "CALL pfa_sync('RIO', 'full')");
like($err, qr/NOTICE:  organization "RIO": reading, \d+ of \d+ records \(\d+%\), \d+ a second/,
	'progress as NOTICEs');
sim($sim, 'clear');

# an operator who has no rights on tables
$node->safe_psql($db, "SET client_min_messages = error; CREATE ROLE op; SELECT pfa_grant_access('op', 'operator')");
sim($sim, 'change?org=RIO&count=4');
my $operator = start_sql($node, 'SET ROLE op', "CALL pfa_sync('RIO', 'full')", 'SELECT current_user');
finish_sql($operator);
like($operator->{err}, qr/full sync completed, \d+ records seen, 0 inserted, 4 updated, 0 deleted/,
	'an operator syncs in the foreground');
is($operator->{out}, "op\n", 'and is himself afterwards');
compare($node, $db, $sim, 'RIO', 'by an operator');

# prepared, as drivers do it; and twice in one session
my $script = $node->basedir . '/call.sql';
append_to_file($script, "CALL pfa_sync('RIO');\nSELECT count(*) FROM pfa_organization;\n");
$node->command_ok([ 'pgbench', '-n', '-M', 'prepared', '-t', '3', '-f', $script, $db ],
	'CALL as a prepared statement');

# what interrupts a CALL, and how the run ends
sub interrupted
{
	my ($server, $name, $interrupt, $error, $status) = @_;
	my $call = in_download('RIO', sub { start_sql($server, "CALL pfa_sync('RIO', 'full')") });
	my $pid = call_pid($server);
	my $id = value($server, $db,
		"SELECT run_id FROM pfa_sync_run WHERE status = 'running'");

	wait_for($server, $db, "SELECT wait_event_type = 'Extension' FROM pg_stat_activity WHERE pid = $pid");
	is(value($server, $db,
			"SELECT backend_xid, backend_xmin, xact_start FROM pg_stat_activity WHERE pid = $pid"),
		'||', "$name: no transaction is open while PEMS is waited for");
	my $begun = server_time();
	$interrupt->($pid, $id);
	my $seconds = time_of_end($pid) - $begun;
	finish_sql($call);
	cmp_ok($seconds, '<', 1, "$name: ended within $seconds s");
	like($call->{err}, $error, "$name: error");
	is(value($server, $db, "SELECT status FROM pfa_sync_run WHERE run_id = $id"), $status,
		"$name: run is $status");
	return $id;
}

interrupted($node, 'pg_cancel_backend',
	sub { $control->query_safe("SELECT pg_cancel_backend($_[0])") },
	qr/ERROR:  canceling statement due to user request/, 'cancelled');
interrupted($node, 'pfa_sync_cancel',
	sub { $control->query_safe("SELECT pfa_sync_cancel($_[1])") },
	qr/ERROR:  sync of organization "RIO" was cancelled/, 'cancelled');
interrupted($node, 'pfa_vanguard.enabled',
	sub {
		$control->query_safe('ALTER SYSTEM SET pfa_vanguard.enabled = off');
		$control->query_safe('SELECT pg_reload_conf()');
	},
	qr/ERROR:  sync of organization "RIO" was cancelled: setting "pfa_vanguard.enabled" was switched off/,
	'cancelled');
setting($node, 'pfa_vanguard.enabled', 'on');
sim($sim, 'fault?kind=hang&org=RIO');
my $timed = start_sql($node, "SET statement_timeout = '300ms'", "CALL pfa_sync('RIO')");
finish_sql($timed);
like($timed->{err}, qr/ERROR:  canceling statement due to statement timeout/, 'statement_timeout');
$took = value($node, $db, "SELECT extract(epoch FROM finished_at - started_at)
	FROM pfa_sync_run ORDER BY run_id DESC LIMIT 1");
cmp_ok($took, '<', 1.3, "in $took s");
sim($sim, 'clear');

# a session that goes: the run is taken up by a worker
my $left = in_download('RIO', sub { start_sql($node, "CALL pfa_sync('RIO', 'full')") });
my $pid = call_pid($node);
$run = value($node, $db, "SELECT run_id FROM pfa_sync_run WHERE status = 'running'");
$before = server_time();
$control->query_safe("SELECT pg_terminate_backend($pid)");
$took = time_of_end($pid) - $before;
finish_sql($left);
cmp_ok($took, '<', 1, "terminated within $took s");
sim($sim, 'clear');
is(value($node, $db, "SELECT pfa_sync_wait($run, '60 s')"), 'completed',
	'its run is taken up again');
compare($node, $db, $sim, 'RIO', 'after that');

# never two at a time: the second CALL follows the first
my $first = in_download('RIO', sub { start_sql($node, "CALL pfa_sync('RIO', 'full')") });
my $second = start_sql($node, "CALL pfa_sync('RIO')");
ok(wait_for($node, $db, "SELECT count(*) = 2 FROM pg_stat_activity
	WHERE application_name = 'background' AND query LIKE 'CALL%' AND state = 'active'"), 'two calls');
is(value($node, $db, "SELECT count(*) FROM pfa_sync_run WHERE status IN ('queued', 'running')"),
	'1', 'one run');
is(value($node, $db, "SELECT pfa_sync_now('RIO') = run_id FROM pfa_sync_run WHERE status = 'running'"),
	't', 'whose id is the answer to a request');
$second->{handle}->pump until $second->{err} =~ /at work/;
sim($sim, 'clear');
finish_sql($_) for $first, $second;
like($first->{err}, qr/run \d+ begins.*full sync completed/s, 'the first performs it');
like($second->{err}, qr/at work in another process.*full sync completed/s, 'the second follows it');
unlike($second->{err}, qr/begins/, 'and performs none');

# ---- 3: DROP EXTENSION while somebody waits ----

$run = in_download('RIO', sub { value($node, $db, "SELECT pfa_sync_now('RIO', 'full')") });
$waiting = start_sql($node, "SELECT pfa_sync_wait($run)");
ok(wait_for($node, $db, "SELECT count(*) = 1 FROM pg_stat_activity
	WHERE application_name = 'background' AND query LIKE 'SELECT pfa_sync_wait%'"), 'somebody waits');
$before = server_time();
$control->query_safe('SET client_min_messages = error; DROP EXTENSION pfa_vanguard CASCADE');
$took = server_time() - $before;
cmp_ok($took, '<', 2, "DROP EXTENSION took $took s");
finish_sql($waiting);
like($waiting->{err}, qr/ERROR:  extension "pfa_vanguard" (has been dropped|is not installed)/,
	'who waits is told');
sim($sim, 'clear');
$control->quit;
undef $control;
$node->stop;

# ---- 4, without workers ----

my $plain = new_server('plain', preload => 0, conf => "track_functions = all\nlog_min_duration_statement = 500\n");
add_source($plain, $db, $sim, 'pems', "page_size '1000'");
$plain->safe_psql($db,
	"SELECT pfa_add_organization(o, 'pems') FROM unnest('{RIO,LIMA}'::text[]) o");
($rc, $out, $err) = $plain->psql($db, "SELECT pfa_sync_now()");
like($err, qr/ERROR:  no workers are running.*HINT:.*CALL pfa_sync/s, 'no workers: refused, with a HINT');
is( value($plain, $db, "SELECT DISTINCT state, reason FROM pfa_sync_status"),
	'idle|no workers: pfa_vanguard is not in shared_preload_libraries, sync with CALL pfa_sync()',
	'and the status says so');
($rc, $out, $err) = $plain->psql($db, 'CALL pfa_sync()');
is($rc, 0, 'CALL pfa_sync() without workers');
compare($plain, $db, $sim, $_, "without workers: $_") for qw(RIO LIMA);

# it is one statement, whatever transactions it has
sim($sim, 'fault?kind=latency&ms=400&org=RIO');
my $offset = -s $plain->logfile;
$plain->safe_psql($db, "CALL pfa_sync('RIO', 'full')");
sim($sim, 'clear');
is(value($plain, $db, "SELECT calls FROM pg_stat_user_functions WHERE funcname = 'pfa_sync'"), '2',
	'its own statistics survive');
is(value($plain, $db, "SELECT n_tup_ins > 0 FROM pg_stat_user_tables WHERE relname = 'pfa_mirror'"), 't',
	'those of its tables too');
ok(log_lines($plain, qr/duration: \d+/, $offset), 'its duration is logged');
is(value($plain, $db, 'SELECT count(*) FROM pfa_sync_run WHERE status = \'completed\''), '3', 'three runs');

$node = $plain;
control($plain);
interrupted($plain, 'without workers, pg_cancel_backend',
	sub { $control->query_safe("SELECT pg_cancel_backend($_[0])") },
	qr/ERROR:  canceling statement due to user request/, 'cancelled');
interrupted($plain, 'without workers, pfa_sync_cancel',
	sub { $control->query_safe("SELECT pfa_sync_cancel($_[1])") },
	qr/ERROR:  canceling statement due to user request/, 'cancelled');
my $id = interrupted($plain, 'without workers, pg_terminate_backend',
	sub { $control->query_safe("SELECT pg_terminate_backend($_[0])") },
	qr/terminating connection/, 'running');
is( value($plain, $db, "SELECT state, reason FROM pfa_sync_status WHERE organization_id = 'RIO'"),
	'waiting|its process has gone, CALL pfa_sync() takes the run up again',
	'a run without its process');
sim($sim, 'clear');
($rc, $out, $err) = $plain->psql($db, "CALL pfa_sync('RIO')");
is($rc, 0, 'another CALL');
is(value($plain, $db, "SELECT status, attempt FROM pfa_sync_run WHERE run_id = $id"),
	'completed|2', 'takes it up again');
compare($plain, $db, $sim, 'RIO', 'in the end');
$control->quit;
$plain->stop;

done_testing();
