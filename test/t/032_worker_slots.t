# max_worker_processes too small, and processes that cannot be forked:
#  - with one slot for syncs all organizations are synced, in order
#  - with none, or none for a scheduler: a WARNING with a HINT a minute and no
#    more, nothing in the event log or the history, and pfa_sync_status says why
#  - a process that could not be forked is started once it can be
#  - workers that fail at their start are not started again and again
use strict;
use warnings;
use PfaTest;
use Test::More;
use Time::HiRes qw(time usleep);

my $node = new_server('main', conf => "max_worker_processes = 3\nmax_logical_replication_workers = 0\n");
my $db = 'postgres';
my $sim = simulator('--orgs', 'S*12:100', '--seed', '43');

sub until_is
{
	my ($session, $query, $expected, $seconds) = @_;
	my $end = time + $seconds;
	my $answer;
	do
	{
		return 1 if ($answer = $session->run($query)) eq $expected;
		usleep(20_000);
	} while (time < $end);
	diag("got $answer");
	return 0;
}

setting($node, 'pfa_vanguard.max_concurrent_syncs', 8);
add_source($node, $db, $sim);

# ---- one slot ----

$node->safe_psql($db, q{SELECT pfa_add_organization('S' || to_char(i, 'FM0000'), 'pems', NULL, '1 day')
	FROM generate_series(1, 12) i});
my $session = session($node, $db);
ok(until_is($session, q{SELECT count(*) FROM pfa_sync_run WHERE status = 'completed'}, '12', 40),
	'one slot for all syncs: all are synced');
for my $round (1 .. 2)
{
	$session->run(q{SELECT pfa_sync_now()});
	ok(synced($node, $db), "round $round");
}
is($session->run(q{SELECT min(n), max(n) FROM (SELECT count(*) AS n FROM pfa_sync_run GROUP BY organization_id) c}),
	'3|3', 'each as often as the others');
cmp_ok(log_lines($node, 'WARNING:  no background worker slot is free'), '<=', 2, 'with at most a warning a minute');
is($session->run(q{SELECT count(*) FROM pfa_event_log WHERE level IN ('warning', 'error')}), '0',
	'and nothing of it in the event log');
$session->close;

# ---- none for syncs ----

$node->append_conf('postgresql.conf', "max_worker_processes = 2\n");
my $offset = -s $node->logfile;
$node->restart;
$session = session($node, $db);
ok(until_is($session, q{SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'pfa_vanguard scheduler%'
	AND state = 'idle'}, '1', 10), 'launcher and scheduler have the slots');
my $run = $session->run(q{SELECT pfa_sync_now('S0001')});
ok(until_is($session, q{SELECT state, reason FROM pfa_sync_status WHERE organization_id = 'S0001'},
	'queued|waiting for a worker slot', 10), 'the status says what a sync waits for');
ok($node->wait_for_log(qr/WARNING:  no background worker slot is free for a sync/, $offset), 'so does the log');
ok($node->wait_for_log(qr/HINT:  Increase max_worker_processes/, $offset), 'and what to do');
my $rows = $session->run(q{SELECT count(*) FROM pfa_event_log});
# Three of its turns.
usleep(3_200_000);
is(log_lines($node, 'WARNING:  no background worker slot is free', $offset), 1, 'not at each of its turns');
is($session->run(q{SELECT count(*) FROM pfa_event_log}), $rows, 'the event log does not grow');
is($session->run(q{SELECT count(*), min(run_id) FROM pfa_sync_run WHERE status = 'queued'}), "1|$run", 'nor the history');
$session->close;

# ---- none for a scheduler ----

$node->append_conf('postgresql.conf', "max_worker_processes = 1\n");
$offset = -s $node->logfile;
$node->restart;
ok($node->wait_for_log(qr/WARNING:  no background worker slot is free for a pfa_vanguard scheduler/, $offset),
	'no slot for a scheduler: the log says so');
is(value($node, $db, q{SELECT state, reason FROM pfa_sync_status WHERE organization_id = 'S0001'}),
	'queued|waiting for the scheduler of this database to start', 'and the status');

# ---- enough ----

$node->append_conf('postgresql.conf', "max_worker_processes = 8\n");
$offset = -s $node->logfile;
$node->restart;
is(value($node, $db, "SELECT pfa_sync_wait($run, '20 s')"), 'completed', 'with enough of them the run completes');

is(log_lines($node, 'no background worker slot', $offset), 0, 'and nothing is missing');

# ---- fork fails ----

SKIP:
{
	my $postmaster = (split /\n/, PostgreSQL::Test::Utils::slurp_file($node->data_dir . '/postmaster.pid'))[0];

	skip 'needs prlimit, and a user that limits apply to', 4
	  if $> == 0 || system('prlimit --version > /dev/null 2>&1') != 0;

	$session = session($node, $db);
	$session->run('SELECT 1');
	my ($scheduler) = worker_pids($node, 'pfa_vanguard scheduler%');
	$offset = -s $node->logfile;
	my ($limit) = `prlimit --pid $postmaster --nproc --noheadings --raw --output SOFT` =~ /(\S+)/;
	system('prlimit', '--pid', $postmaster, '--nproc=1:') == 0 or die;
	$run = $session->run(q{SELECT pfa_sync_now('S0001', 'full')});
	$session->run("SELECT pg_terminate_backend($scheduler)");
	ok($node->wait_for_log(qr/could not fork worker process/, $offset), 'processes cannot be forked');
	# As long as it would take to flood it.
	usleep(3_000_000);
	cmp_ok(log_lines($node, 'could not fork worker process', $offset), '<=', 6, 'which does not flood the log');
	system('prlimit', '--pid', $postmaster, "--nproc=$limit:") == 0 or die;
	my $before = time;
	ok(until_is($session, "SELECT status FROM pfa_sync_run WHERE run_id = $run", 'completed', 30),
		'once they can be, the run completes');
	cmp_ok(time - $before, '<', 30, 'soon, and without a restart');
	$session->close;
}

# ---- workers that fail at their start ----

$node->safe_psql($db, q{
	CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
		$$ BEGIN RAISE 'no run is to be claimed'; END $$;
	CREATE TRIGGER refuse BEFORE UPDATE ON pfa_sync_run FOR EACH ROW EXECUTE FUNCTION refuse()});
$offset = -s $node->logfile;
$session = session($node, $db);
$run = $session->run(q{SELECT pfa_sync_now('S0001', 'full')});
ok($node->wait_for_log(qr/no run is to be claimed/, $offset), 'a run cannot be claimed');
# As long as it would take to start many.
usleep(3_000_000);
cmp_ok(log_lines($node, 'ERROR:  no run is to be claimed', $offset), '<=', 5, 'workers are not started in a loop');
$session->run('DROP TRIGGER refuse ON pfa_sync_run');
ok(until_is($session, "SELECT status FROM pfa_sync_run WHERE run_id = $run", 'completed', 20), 'and recover by themselves');
$session->close;

is(log_lines($node, '(PANIC|terminated by signal|TRAP)'), 0, 'nothing crashed');
$node->stop;
done_testing();
