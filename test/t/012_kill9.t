# Processes killed with SIGKILL in mid-sync: the server restarts, and then
#  - the run is taken up again without a hand, and completes
#  - pages that were committed are not read again
#  - the mirror equals PEMS
# whoever was killed: the sync worker, the scheduler, the launcher, another
# backend, the checkpointer; and the postmaster itself.
# A run that takes the server along each time is given up after five times.
use strict;
use warnings;
use PfaTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $node = new_server('main', conf => "restart_after_crash = on\n");
my $db = 'postgres';
my $sim = simulator('--orgs', 'RIO:6000', '--seed', '11');
my $page = 500;
my $step = $page - 32;

add_source($node, $db, $sim, 'pems', qq{page_size '$page', timeout '300', requests_in_flight '1'});
# One worker, so that pages are read in order.
setting($node, 'pfa_vanguard.max_concurrent_syncs', 1);
# What has been committed is on disk a fifth of a second later.
setting($node, 'wal_writer_delay', '10ms');
$node->safe_psql($db, "SELECT pfa_add_organization('RIO', 'pems', NULL, '1 day')");
ok(synced($node, $db), 'a first sync');

# A run that has read its first pages and hangs in the one at row 3000.
sub begin_run
{
	sim($sim, 'clear');
	sim($sim, "change?org=RIO&count=3000");
	sim($sim, "fault?kind=hang&after=3000");
	my $run = value($node, $db, q{SELECT pfa_sync_now('RIO', 'full')});
	ok(wait_for($node, $db,
		"SELECT (SELECT count(*) FROM pfa_sync_page) >= 6
		 AND EXISTS (SELECT 1 FROM pg_stat_activity
			WHERE application_name = 'pfa_vanguard sync RIO' AND wait_event_type = 'Extension')", 20),
		"run $run hangs after six pages");
	# Commits of pages do not wait for the disk.
	my $lsn = value($node, $db, 'SELECT pg_current_wal_insert_lsn()');
	ok(wait_for($node, $db, "SELECT pg_current_wal_flush_lsn() >= '$lsn'", 10),
		'what was committed has reached the disk');
	return $run;
}

# The run completes, and what was read before the crash is not read again:
# known is how many lines the simulator's log had then.
sub completes
{
	my ($run, $name, $known) = @_;

	sim($sim, 'clear');
	ok(wait_for($node, $db,
		"SELECT status FROM pfa_sync_run WHERE run_id = $run", 60, 'completed'),
		"$name: the run is taken up again and completes");
	is(value($node, $db, "SELECT attempt FROM pfa_sync_run WHERE run_id = $run"), '2',
		"$name: in its second attempt");
	my @log = split /\n/, sim($sim, 'log?n=1000');
	my @offsets = map { /"offset":(\d+)/ } @log[$known .. $#log];
	is(join(' ', grep { $_ > 0 && $_ <= 5 * $step } @offsets), '',
		"$name: no page that was committed is read again");
	cmp_ok(scalar(grep { $_ > 5 * $step } @offsets), '>=', 6, "$name: but the others are");
	compare($node, $db, $sim, 'RIO', $name);
}

sub pid_of
{
	my ($condition) = @_;
	return value($node, $db, "SELECT pid FROM pg_stat_activity WHERE $condition LIMIT 1");
}

my $victim = session($node, $db);
my %condition = (
	'sync worker' => "application_name = 'pfa_vanguard sync RIO'",
	'scheduler' => "application_name = 'pfa_vanguard scheduler postgres'",
	'launcher' => "application_name = 'pfa_vanguard launcher'",
	'checkpointer' => "backend_type = 'checkpointer'");

for my $who ('backend', sort keys %condition)
{
	my $run = begin_run();
	my $pid = $who eq 'backend' ? $victim->backend : pid_of($condition{$who});
	my @before = split /\n/, sim($sim, 'log?n=1000');

	kill 'KILL', $pid;
	$node->poll_query_until($db, 'SELECT true');
	ok(wait_for($node, $db,
		"SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pfa_vanguard scheduler postgres'",
		20, '1'), "$who killed: the scheduler is back");
	completes($run, "$who killed", scalar @before);
}
$victim->close;

# ---- the postmaster ----

my $run = begin_run();
my @before = split /\n/, sim($sim, 'log?n=1000');
my @workers = worker_pids($node, '%');
my @others = split /\n/, value($node, $db, "SELECT pid FROM pg_stat_activity
	WHERE backend_type NOT LIKE 'pfa_vanguard%' AND pid <> pg_backend_pid()");
my ($postmaster) = split /\n/, slurp_file($node->data_dir . '/postmaster.pid');
$node->kill9;
my $end = time + 30;
usleep(10_000) while grep({ process_exists($_) } @workers) && time < $end;
is(scalar(grep { process_exists($_) } @workers), 0,
	'workers end when the postmaster has died');
# while one of them is there, were it as a zombie, the server does not start
usleep(10_000) while kill(0, $postmaster, @others) > 0 && time < $end;
$node->start;
completes($run, 'postmaster killed', scalar @before);

# ---- one that kills the server each time ----

$run = begin_run();
for my $times (1 .. 5)
{
	ok(wait_for($node, $db,
		"SELECT count(*) FROM pg_stat_activity a, pfa_sync_run r
		 WHERE r.run_id = $run AND r.attempt = $times AND r.worker_pid = a.pid", 20, '1'),
		"attempt $times begins");
	kill 'KILL', value($node, $db, "SELECT worker_pid FROM pfa_sync_run WHERE run_id = $run");
	$node->poll_query_until($db, 'SELECT true');
}
ok(wait_for($node, $db, "SELECT status FROM pfa_sync_run WHERE run_id = $run", 20, 'failed'),
	'a run that takes the server along is given up');
is(value($node, $db, "SELECT error FROM pfa_sync_run WHERE run_id = $run"),
	'worker died 5 times', 'and says why');
is(value($node, $db, "SELECT state FROM pfa_sync_status"), 'backoff', 'for a while');
sim($sim, 'clear');
is(run_sync($node, $db, 'RIO', 'full'), 'completed', 'a request begins anew');
compare($node, $db, $sim, 'RIO', 'after it was given up');

$node->stop;
done_testing();
