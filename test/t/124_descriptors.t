# Connections and file descriptors (H14), in a server that may open 200 a process:
#  - many organizations: connections to PEMS stay within requests_in_flight a
#    process, and are used again and again
#  - many syncs with faults of every kind leave no socket behind, neither in a
#    sync worker nor in a session
use strict;
use warnings;
use PfaTest;
use Test::More;
use Time::HiRes qw(time usleep);

my $db = 'postgres';
my $sim = simulator('--orgs', 'ORG*50:400,RIO:400', '--seed', '124');
# inherited by the server
plan skip_all => 'needs prlimit' if system('prlimit', "--pid=$$", '--nofile=200:200') != 0;
my $node = new_server('main', conf => "max_worker_processes = 24\nautovacuum = off\npfa_vanguard.max_concurrent_syncs = 4\n");

# Connections to the simulator by the inode of their socket.
sub connections
{
	my $port = sprintf '%04X', $sim->{port};
	my %inodes;
	for my $table (qw(/proc/net/tcp /proc/net/tcp6))
	{
		open my $file, '<', $table or next;
		# sl local_address rem_address st (01: established) tx:rx tr:when retrnsmt uid timeout inode
		/^\s*\d+: \S+ \S+:$port 01 (?:\S+ +){5}(\d+)/ and $inodes{$1} = 1 while <$file>;
	}
	return \%inodes;
}

# Those that are left in the end: a worker may still be leaving.
sub connections_left
{
	my $end = time + 30;
	usleep(20_000) while %{ connections() } && time < $end;
	return scalar keys %{ connections() };
}

# Descriptors of a process by kind.
sub descriptors
{
	my ($pid) = @_;
	my %n = (socket => 0, all => 0, inodes => []);
	for my $link (map { readlink } glob "/proc/$pid/fd/*")
	{
		next unless defined $link;
		$n{all}++;
		# sockets and event queues
		$n{socket}++ if $link =~ /^(socket|anon_inode):/;
		push @{ $n{inodes} }, $1 if $link =~ /^socket:\[(\d+)\]/;
	}
	return \%n;
}

# ---- many organizations ----

add_source($node, $db, $sim, 'pems', "page_size '50', requests_in_flight '2', max_retries '0', timeout '10'");
sim($sim, 'fault?kind=latency&ms=20');
sim($sim, 'stats?reset=1');
$node->safe_psql($db, "SELECT pfa_add_organization('ORG' || to_char(n, 'FM0000'), 'pems', sync_interval => '7 days')
	FROM generate_series(1, 50) n");
my $session = session($node, $db);
my ($most, $together, $widest, $finished) = (0, 0, 0, 0);
my $end = time + 60;
until ($finished >= 50 || time > $end)
{
	my %open = map { $_ => descriptors($_) }
		split /\n/, $session->run("SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'pfa_vanguard sync%'");
	# read after the descriptors, so that a connection that a process closes
	# and the one that it opens then are not both counted; by process, as those
	# of one that has just ended may still be there when the next begins
	my $connections = connections();
	my $sum = 0;
	for my $process (values %open)
	{
		my $n = grep { $connections->{$_} } @{ $process->{inodes} };
		$sum += $n;
		$most = $n if $n > $most;
		$widest = $process->{all} if $process->{all} > $widest;
	}
	$together = $sum if $sum > $together;
	$finished = $session->run("SELECT count(*) FROM pfa_sync_run WHERE status = 'completed'");
}
is($finished, 50, 'all organizations are synced');
cmp_ok($most, '<=', 2, 'a process has at most requests_in_flight connections');
cmp_ok($together, '>=', 2, 'several at a time');
cmp_ok($widest, '<', 150, "descriptors of a worker, at most $widest");
my ($connections) = sim($sim, 'stats') =~ /"connections_total":(\d+)/;
my $requests = requests_of($sim);
# the admin's own and 50 organizations with at most two processes of two connections
cmp_ok($connections, '<=', $requests / 2, "connections are used again: $connections for $requests requests");
is(log_lines($node, 'Too many open files'), 0, 'no process ran out of descriptors');
sim($sim, 'clear');

# ---- a session ----

my @faults = ('status&code=500', 'status&code=401', 'redirect', 'cut', 'cut&bytes=0', 'reset', 'close', 'truncate',
	'alert&text=no', 'html', 'garbage', 'wrong_total&rows=17', 'dup&row=5', 'unsorted');
$node->safe_psql($db, "SELECT pfa_add_organization('RIO', 'pems', sync_interval => '7 days')");
ok(synced($node, $db), 'RIO is synced');
my $backend = $session->backend;

# One sync for each fault, on its first page or a later one, and one without.
sub round_of_faults
{
	my ($sync) = @_;
	my $failed = 0;
	for my $fault (@faults)
	{
		sim($sim, "fault?kind=$fault&org=RIO&after=" . (rand > 0.5 ? 0 : 100));
		$failed++ if $sync->() =~ /failed/;
		sim($sim, 'clear');
	}
	return $failed;
}

my $call = sub { $session->run("CALL pfa_sync('RIO', 'full')") };
cmp_ok(round_of_faults($call), '>=', 8, 'a session: syncs fail');
$call->();
my $before = descriptors($backend);
my $failed = 0;
$failed += round_of_faults($call) for 1 .. 3;
# the ends of a statement that leave a transfer behind
sim($sim, 'fault?kind=hang&org=RIO&after=100');
for (1 .. 5)
{
	like($session->run("SET statement_timeout = '200ms'; CALL pfa_sync('RIO', 'full')"), qr/statement timeout/,
		"a session: interrupted, $_");
}
sim($sim, 'clear');
$session->run('SET statement_timeout = 0');
unlike($call->(), qr/ERROR/, 'a session: it syncs after that');
my $after = descriptors($backend);
cmp_ok($failed, '>=', 24, "a session: $failed syncs have failed");
is($after->{socket}, $before->{socket}, 'a session: no socket is left');
cmp_ok($after->{all}, '<=', $before->{all} + 3, "a session: nor other descriptors, $before->{all} and $after->{all}");
is(connections_left(), 0, 'a session: no connection is left');

# ---- a worker ----

# One worker that finds work again and again: requests of a fault each, all in
# the queue at the same time.
setting($node, 'pfa_vanguard.max_concurrent_syncs', 1);
sim($sim, 'fault?kind=latency&ms=30');
for my $n (1 .. 50)
{
	sim($sim, sprintf 'fault?kind=%s&org=ORG%04d', $faults[ $n % @faults ], $n);
}
my ($first, $last) = split /\|/, $session->run("SELECT min(r), max(r) FROM pfa_sync_now(NULL, 'full') r");
ok(wait_for($node, $db, "SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name LIKE 'pfa_vanguard sync%'"),
	'a worker begins');
my ($pid) = worker_pids($node, 'pfa_vanguard sync%');
my (@sockets, $all);
$end = time + 60;
while (process_exists($pid) && time < $end)
{
	my $open = descriptors($pid);
	push @sockets, $open->{socket} if $open->{all};
	usleep(10_000);
}
is(value($node, $db, "SELECT count(*) FROM pfa_sync_run WHERE run_id BETWEEN $first AND $last AND status IN ('queued', 'running')"),
	'0', 'it performs them all');
cmp_ok(value($node, $db, "SELECT count(*) FROM pfa_sync_run WHERE run_id BETWEEN $first AND $last AND status = 'failed'"), '>=', 30,
	'a worker: syncs have failed');
my ($early, $late) = map { my $m = 0; $_ > $m and $m = $_ for @$_; $m } [ @sockets[ 0 .. $#sockets / 3 ] ], [ @sockets[ $#sockets * 2 / 3 .. $#sockets ] ];
cmp_ok($late, '<=', $early, "a worker: as many sockets at the end ($late) as at the beginning ($early)");
is(connections_left(), 0, 'a worker: no connection is left');

$session->close;
$node->stop;
done_testing();
