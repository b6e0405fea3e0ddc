# In mid-download, be it that PEMS hangs, drips, or asked to wait,
#  - SIGTERM, pg_terminate_backend() and pfa_sync_cancel() act within a second
#  - a terminated run is taken up again and completes; a cancelled one ends
#  - so do the helper's pages where a listing has two workers
#  - a fast shutdown takes less than 2 s, also where the synchronous standby is
#    missing (W7), and an immediate one does no harm
#  - after each, the run is taken up again at the next start and the mirror
#    equals PEMS
use strict;
use warnings;
use PfaTest;
use Test::More;
use Time::HiRes qw(time usleep);

my $node = new_server('main');
my $sim = simulator('--orgs', 'RIO:4000', '--seed', '5');
my $db = 'postgres';
my %fault = (
	hang => 'hang',
	'hang within a page' => 'hang&bytes=100000',
	drip => 'drip&n=100&ms=20',
	'Retry-After' => 'status&code=429&retry_after=600&count=1');

add_source($node, $db, $sim, 'pems', q{page_size '500', timeout '300'});

# A run that PEMS keeps waiting from row 1000 on, and its worker's pid.
sub begin_run
{
	my ($fault) = @_;
	# one refusal has the whole run wait; it has been used up by then
	my $states = $fault =~ /retry_after/ ? "'waiting'" : "'running', 'waiting'";
	my $sql = qq{SELECT a.pid FROM pfa_sync_status s, pg_stat_activity a
		WHERE s.state IN ($states) AND s.rows_seen >= 500
		AND a.application_name = 'pfa_vanguard sync RIO'
		AND a.wait_event_type = 'Extension' LIMIT 1};

	sim($sim, 'clear');
	sim($sim, "change?org=RIO&count=2000");
	sim($sim, "fault?kind=$fault&after=1000");
	my $run = value($node, $db, q{SELECT pfa_sync_now('RIO', 'full')});
	ok(wait_for($node, $db, "SELECT count(*) = 1 FROM ($sql) s", 20),
		"run $run waits for PEMS");
	return ($run, worker_pids($node, 'pfa_vanguard sync RIO'));
}

# The run, after whatever happened to it, completes.
sub completes
{
	my ($run, $name) = @_;
	sim($sim, 'clear');
	is(value($node, $db, "SELECT pfa_sync_wait($run, '60 s')"), 'completed',
		"$name: the run is taken up again and completes");
	cmp_ok(value($node, $db, "SELECT attempt FROM pfa_sync_run WHERE run_id = $run"),
		'>', 1, "$name: not in its first attempt");
	compare($node, $db, $sim, 'RIO', $name);
}

sub wait_gone
{
	my (@pids) = @_;
	my $end = time + 30;
	while (grep { process_exists($_) } @pids)
	{
		return if time > $end;
		usleep(5000);
	}
}

$node->safe_psql($db, "SELECT pfa_add_organization('RIO', 'pems', NULL, '1 day')");
ok(synced($node, $db), 'a first sync');

# ---- one process ----

my $session = session($node, $db);
for my $kind (sort keys %fault)
{
	my ($run, @pids) = begin_run($fault{$kind});
	my $seconds = timed(sub { kill 'TERM', @pids; wait_gone(@pids) });
	cmp_ok($seconds, '<', 1, "$kind: SIGTERM acts within a second");
	completes($run, "$kind, SIGTERM");

	($run, @pids) = begin_run($fault{$kind});
	$seconds = timed(sub {
		$session->run("SELECT pg_terminate_backend($_)") for @pids;
		wait_gone(@pids) });
	cmp_ok($seconds, '<', 1, "$kind: pg_terminate_backend acts within a second");
	completes($run, "$kind, pg_terminate_backend");

	($run, @pids) = begin_run($fault{$kind});
	my $answer;
	$seconds = timed(sub {
		$answer = $session->run("SELECT pfa_sync_cancel($run)");
		$answer .= $session->run("SELECT pfa_sync_wait($run, '10 s')") });
	is($answer, 'tcancelled', "$kind: pfa_sync_cancel");
	cmp_ok($seconds, '<', 1, "$kind: acts within a second");
	is($session->run("SELECT status, error FROM pfa_sync_run WHERE run_id = $run"),
		'cancelled|sync was cancelled', "$kind: the run is cancelled");
	is($session->run("SELECT count(*) FROM pfa_sync_page"), '0',
		"$kind: and leaves nothing behind");
}
sim($sim, 'clear');
is(run_sync($node, $db, 'RIO', 'full'), 'completed', 'after the last cancel');
compare($node, $db, $sim, 'RIO', 'after the last cancel');

# ---- the second worker of a run ----

my ($run) = begin_run('hang');
my @pids;
ok(wait_for($node, $db, "SELECT count(*) = 2 FROM pg_stat_activity
	WHERE application_name = 'pfa_vanguard sync RIO' AND wait_event_type = 'Extension'"),
	'a large listing has two workers');
my $helper = value($node, $db,
	"SELECT a.pid FROM pg_stat_activity a LEFT JOIN pfa_sync_run r
		ON r.worker_pid = a.pid AND r.status = 'running'
	 WHERE application_name = 'pfa_vanguard sync RIO' AND r.run_id IS NULL");
kill 'TERM', $helper;
wait_gone($helper);
sim($sim, 'clear');
is(value($node, $db, "SELECT pfa_sync_wait($run, '60 s')"), 'completed',
	'the run completes without its helper');
is(value($node, $db, "SELECT attempt FROM pfa_sync_run WHERE run_id = $run"), '1',
	'in its first attempt');
compare($node, $db, $sim, 'RIO', 'helper terminated');

# ---- the switch ----

($run, @pids) = begin_run('hang');
my $seconds = timed(sub {
	setting($node, 'pfa_vanguard.enabled', 'off');
	wait_gone(@pids) });
cmp_ok($seconds, '<', 1.5, 'switching off acts within a second');
is(value($node, $db, "SELECT state, reason FROM pfa_sync_status"),
	'queued|switched off by pfa_vanguard.enabled', 'and the run says so');
sim($sim, 'clear');
sim($sim, 'stats?reset=1');
setting($node, 'pfa_vanguard.enabled', 'on');
ok(wait_for($node, $db,
	"SELECT status <> 'queued' FROM pfa_sync_run WHERE run_id = $run", 10),
	'switching on has it start');
completes($run, 'switched off and on');

# ---- shutdown ----

$session->close;
for my $kind (sort keys %fault)
{
	($run, @pids) = begin_run($fault{$kind});
	my $seconds = timed(sub { $node->stop('fast') });
	cmp_ok($seconds, '<', 2, "$kind: fast shutdown takes less than 2 s");
	$node->start;
	completes($run, "$kind, fast shutdown");
}

($run, @pids) = begin_run('hang');
$node->stop('immediate');
is(scalar(grep { process_exists($_) } @pids), 0, 'immediate shutdown leaves no worker');
$node->start;
completes($run, 'immediate shutdown');

# ---- a synchronous standby that is not there ----

$ENV{PGOPTIONS} = '-c synchronous_commit=local';
setting($node, 'synchronous_standby_names', 'nobody');
is(run_sync($node, $db, 'RIO', 'full', 20), 'completed',
	'syncs do not wait for a standby that is not there');
($run, @pids) = begin_run('hang');
$seconds = timed(sub { $node->stop('fast') });
cmp_ok($seconds, '<', 2, 'fast shutdown without the synchronous standby takes less than 2 s');
$node->start;
completes($run, 'no synchronous standby');

is(log_lines($node, '(PANIC|terminated by signal|TRAP)'), 0, 'nothing crashed');
$node->stop;
done_testing();
