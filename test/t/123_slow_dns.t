# A name server that does not answer (H2, H3):
#  - cancel, terminate, statement_timeout, pfa_sync_cancel and pfa_test_source
#    act within a second, a fast shutdown within two
#  - connect_timeout holds
#  - no signal handler can run in the thread that looks up the name
#  - when the name is known again, syncs go on
use strict;
use warnings;
use PfaTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $db = 'postgres';
my $dir = PostgreSQL::Test::Utils::tempdir();
my $shim = preload_shim('resolver');
plan skip_all => 'needs a C compiler' unless defined $shim;

sub resolve
{
	my ($address) = @_;
	unlink "$dir/hosts";
	append_to_file("$dir/hosts", "pems.test $address\n");
}

certificate($dir, 'pems', names => 'DNS:pems.test');
my $sim = simulator('--orgs', 'RIO:500', '--seed', '123', '--tls-cert', "$dir/pems.pem",
	'--tls-key', "$dir/pems.key");
my $node = new_server('main');
$node->stop;
sub start
{
	local $ENV{LD_PRELOAD} = $shim;
	local $ENV{PFA_HOSTS} = "$dir/hosts";
	$node->start;
}
start();
resolve('127.0.0.1');
add_source($node, $db, { url => "https://pems.test:$sim->{port}" }, 'pems',
	"ca_file '$dir/pems.pem', connect_timeout '60', max_retries '0'");
$node->safe_psql($db, "SELECT pfa_add_organization('RIO', 'pems', sync_interval => '7 days')");
ok(synced($node, $db), 'a first sync');

# Threads of a process that are not its first one.
sub threads
{
	my ($pid) = @_;
	return grep { $_ != $pid } map { /(\d+)$/ } glob "/proc/$pid/task/*";
}

# Wait until the process looks up the name: only libcurl's look-ups have threads.
sub looks_up
{
	my ($pid) = @_;
	my $end = time + 20;
	until (threads($pid))
	{
		return 0 if time > $end;
		usleep(10_000);
	}
	return 1;
}

# A run that waits for the name server, and its worker.
sub begin_run
{
	my $run = value($node, $db, "SELECT pfa_sync_now('RIO', 'full')");
	my $pid;
	ok(wait_for($node, $db, "SELECT count(*) = 1 FROM pg_stat_activity
		WHERE application_name = 'pfa_vanguard sync RIO' AND wait_event_type = 'Extension'"), "run $run waits");
	($pid) = worker_pids($node, 'pfa_vanguard sync RIO');
	ok(looks_up($pid), "run $run looks up the name");
	return ($run, $pid);
}

my $session = session($node, $db);
my $waiting = session($node, $db);
my $backend = $waiting->backend;
$session->run('SELECT 1');
resolve('hang');

# ---- a worker ----

my ($run, $pid) = begin_run();
my @unblocked;
for my $thread (threads($pid))
{
	my ($mask) = slurp_file("/proc/$pid/task/$thread/status") =~ /^SigBlk:\s*([0-9a-f]+)/m;
	# SIGKILL and SIGSTOP cannot be blocked
	push @unblocked, map { "signal $_ in thread $thread" }
	  grep { $_ != 9 && $_ != 19 && !(hex($mask) >> ($_ - 1) & 1) } 1 .. 31;
}
is("@unblocked", '', 'the thread that looks up the name takes no signal');
kill 'USR1', $pid for 1 .. 500;
is($session->run("SELECT count(*) FROM pg_stat_activity WHERE pid = $pid"), '1', 'many signals do no harm');
my $answer;
my $seconds = timed(sub { $answer = $session->run("SELECT pfa_sync_cancel($run); SELECT pfa_sync_wait($run, '20 s')") });
is($answer, "t\ncancelled", 'pfa_sync_cancel');
cmp_ok($seconds, '<', 1, 'pfa_sync_cancel acts within a second');

($run, $pid) = begin_run();
$seconds = timed(sub {
	$session->run("SELECT pg_terminate_backend($pid)");
	my $end = time + 20;
	usleep(5000) while process_exists($pid) && time < $end; });
cmp_ok($seconds, '<', 1, 'pg_terminate_backend acts within a second');
# its run is taken up again
ok(wait_for($node, $db, "SELECT attempt = 2 FROM pfa_sync_run WHERE run_id = $run"), 'the run is taken up again');
$session->run("SELECT pfa_sync_cancel($run); SELECT pfa_sync_wait($run, '60 s')");

# ---- a session ----

sub interrupted
{
	my ($name, $statement, $interrupt, $error) = @_;
	$waiting->start($statement);
	ok(looks_up($backend), "$name: looks up the name");
	# with a thread of the statement before, perhaps: who interrupts waits for this one
	ok(wait_for($node, $db, "SELECT wait_event_type = 'Extension' FROM pg_stat_activity WHERE pid = $backend"),
		"$name: waits for it") if defined $interrupt;
	my $text;
	my $took = timed(sub { $session->run($interrupt) if defined $interrupt; $text = $waiting->result });
	like($text, $error, "$name: error");
	cmp_ok($took, '<', 1, "$name: within a second");
}

interrupted('CALL, cancelled', "CALL pfa_sync('RIO', 'full')", "SELECT pg_cancel_backend($backend)",
	qr/canceling statement due to user request/);
interrupted('CALL, pfa_sync_cancel', "CALL pfa_sync('RIO', 'full')",
	"SELECT pfa_sync_cancel(run_id) FROM pfa_sync_run WHERE status = 'running'", qr/was cancelled/);
$waiting->run("SET statement_timeout = '400ms'");
interrupted('CALL, statement_timeout', "CALL pfa_sync('RIO', 'full')", undef,
	qr/canceling statement due to statement timeout/);
interrupted('pfa_test_source, statement_timeout', "SELECT pfa_test_source('pems')", undef,
	qr/canceling statement due to statement timeout/);
$waiting->run("SET statement_timeout = 0");
interrupted('pfa_test_source, cancelled', "SELECT pfa_test_source('pems')", "SELECT pg_cancel_backend($backend)",
	qr/canceling statement due to user request/);

# ---- the time limit ----

$node->safe_psql($db, "ALTER SERVER pems OPTIONS (SET connect_timeout '2')");
$seconds = timed(sub { $answer = $session->run("SELECT message FROM pfa_test_source('pems')") });
is($answer, "could not connect to pems.test port $sim->{port} within 2 s", 'connect_timeout: pfa_test_source');
cmp_ok($seconds, '<', 3, 'connect_timeout: in time');
cmp_ok($seconds, '>', 1.9, 'connect_timeout: not before');
is(run_sync($node, $db, 'RIO', 'full'), 'failed', 'connect_timeout: a sync fails');
cmp_ok(last_run($node, $db, 'RIO', 'extract(epoch FROM finished_at - started_at)'), '<', 3.5,
	'connect_timeout: in time');
like(last_run($node, $db, 'RIO', 'error'), qr/could not connect to pems.test port \d+ within 2 s/, 'connect_timeout: and why');

# ---- shutdown ----

$node->safe_psql($db, "ALTER SERVER pems OPTIONS (SET connect_timeout '60')");
$_->close for $session, $waiting;
($run, $pid) = begin_run();
$seconds = timed(sub { $node->stop('fast') });
cmp_ok($seconds, '<', 2, 'fast shutdown takes less than 2 s');
resolve('127.0.0.1');
start();
is(value($node, $db, "SELECT pfa_sync_wait($run, '60 s')"), 'completed', 'the name is known again: the run completes');
compare($node, $db, $sim, 'RIO', 'the name is known again');
is(log_lines($node, '(PANIC|terminated by signal|TRAP)'), 0, 'nothing crashed');
$node->stop;
done_testing();
