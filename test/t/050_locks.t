# Other people's locks (S4, S6):
#  - while somebody holds ACCESS EXCLUSIVE on pfa_mirror for a while, our
#    workers queue for it no longer than two seconds at a time, so that nobody
#    waits behind them for longer, and the sync completes in the same attempt
#  - the scheduler outlives locks on its tables, and so do other databases
#  - CREATE INDEX CONCURRENTLY, VACUUM, a lock like pg_dump's, REINDEX
#    CONCURRENTLY, and ALTER TABLE go through while syncs are running, with
#    PEMS hanging, and the other way round
#  - DELETE of everything and VACUUM gives no space back, as that would take an
#    exclusive lock
use strict;
use warnings;
use PfaTest;
use Test::More;
use Time::HiRes qw(time usleep);

my $node = new_server('main', conf => "deadlock_timeout = 100ms\n");
my $db = 'postgres';
my $sim = simulator('--orgs', 'RIO:4000', '--seed', '53');
my $session = session($node, $db);
my $holder = session($node, $db);

add_source($node, $db, $sim, 'pems', q{page_size '300', timeout '300'});
$session->run(q{SELECT pfa_add_organization('RIO', 'pems', NULL, '1 day')});
ok(synced($node, $db), 'a first sync');

sub until_true
{
	my ($query, $seconds) = @_;
	my $end = time + $seconds;
	while (time < $end)
	{
		return 1 if $session->run($query) eq 't';
		usleep(10_000);
	}
	return 0;
}

# Does a process of ours wait for a lock on the relation?
sub queued
{
	my ($relation) = @_;
	return "SELECT count(*) > 0 FROM pg_locks l JOIN pg_stat_activity a USING (pid)
		WHERE a.backend_type LIKE 'pfa%' AND NOT l.granted AND l.relation = '$relation'::regclass";
}

# ---- ACCESS EXCLUSIVE on the mirror ----

sim($sim, 'change?org=RIO&count=2000');
$holder->run('BEGIN; LOCK TABLE pfa_mirror');
my $run = $session->run(q{SELECT pfa_sync_now('RIO', 'full')});
ok(until_true(queued('pfa_mirror') . " AND EXISTS (SELECT 1 FROM pfa_sync_run WHERE run_id = $run AND status = 'running')", 10),
	'the sync waits for a lock that somebody holds');

# How long any of our requests for a lock stays in the queue, where others may
# stand behind it; for the five seconds that the lock is held.
my ($longest, $requests, $end) = (0, 0, time + 5);
my %seen;
while (time < $end)
{
	for my $row (split /\n/, $session->run(q{
		SELECT a.pid || ' ' || l.waitstart, extract(epoch FROM clock_timestamp() - l.waitstart)
		FROM pg_locks l JOIN pg_stat_activity a USING (pid)
		WHERE a.backend_type LIKE 'pfa%' AND NOT l.granted AND l.waitstart IS NOT NULL}))
	{
		my ($key, $seconds) = split /\|/, $row;
		# its age counts if it is seen again, as its time may just be over
		$longest = $seen{$key} if exists $seen{$key} && $seen{$key} > $longest;
		$requests++ unless exists $seen{$key};
		$seen{$key} = $seconds;
	}
	usleep(20_000);
}
cmp_ok($requests, '>', 1, "it asks for the lock again and again ($requests times)");
cmp_ok($longest, '<', 2.5, sprintf('and is in the queue for two seconds at most (%.1f s)', $longest));
is($session->run("SELECT attempt, status FROM pfa_sync_run WHERE run_id = $run"), '1|running', 'the run is still alive');
$holder->run('COMMIT');
is($session->run("SELECT pfa_sync_wait($run, '60 s')"), 'completed', 'it completes');
is($session->run("SELECT attempt FROM pfa_sync_run WHERE run_id = $run"), '1', 'in its first attempt');
compare($node, $db, $sim, 'RIO', 'after the lock');

# ---- on the queue and the organizations ----

for my $table (qw(pfa_sync_run pfa_organization pfa_sync_state pfa_event_log))
{
	my ($pid) = worker_pids($node, 'pfa_vanguard scheduler%');
	$holder->run("BEGIN; LOCK TABLE $table");
	# Have it look: it would wait for its turn otherwise.
	$session->run('ALTER SYSTEM SET pfa_vanguard.run_retention = 1000');
	$session->run('ALTER SYSTEM SET pfa_vanguard.event_retention = 1000');
	$node->reload;
	my $waits = until_true(queued($table), 12);
	my $given_up = $waits && until_true('SELECT NOT (' . queued($table) . ')', 6);
	$holder->run('COMMIT');
	ok($waits && $given_up, "$table locked: the scheduler waits, and gives up");
	is((worker_pids($node, 'pfa_vanguard scheduler%'))[0], $pid, "$table locked: and stays");
	is(run_sync($node, $db, 'RIO'), 'completed', "$table: and works again");
	$session->run("ALTER SYSTEM RESET pfa_vanguard.$_") for qw(run_retention event_retention);
	$node->reload;
}

# ---- commands while a sync hangs in mid-download ----

sim($sim, 'change?org=RIO&count=2000');
sim($sim, 'fault?kind=hang&after=1000');
$run = $session->run(q{SELECT pfa_sync_now('RIO', 'full')});
ok(until_true(q{SELECT rows_seen >= 300 FROM pfa_sync_status WHERE state = 'running'}, 20), 'a run hangs');
for my $sql ('CREATE INDEX CONCURRENTLY extra ON pfa_mirror (model)', 'REINDEX INDEX CONCURRENTLY extra',
	'VACUUM pfa_mirror', 'VACUUM FULL pfa_mirror', 'ALTER TABLE pfa_mirror SET (fillfactor = 90)',
	'BEGIN; LOCK TABLE pfa_mirror IN ACCESS SHARE MODE; LOCK TABLE pfa_sync_run IN ACCESS SHARE MODE; COMMIT',
	'ANALYZE pfa_mirror', 'TRUNCATE pfa_event_log')
{
	my $out;
	my $seconds = timed(sub { $out = $session->run($sql) });
	unlike($out, qr/ERROR/, $sql);
	cmp_ok($seconds, '<', 2, 'waits for nobody');
}

# ---- and while one is at work ----

sim($sim, 'clear');
sim($sim, 'fault?kind=latency&ms=100');
$session->run('DROP INDEX extra');
my $out;
my $seconds = timed(sub { $out = $session->run('CREATE INDEX CONCURRENTLY extra ON pfa_mirror (model)') });
unlike($out, qr/ERROR/, 'CREATE INDEX CONCURRENTLY beside a sync at work');
cmp_ok($seconds, '<', 2, 'does not wait for its end');
is($session->run("SELECT pfa_sync_wait($run, '60 s')"), 'completed', 'which completes');
sim($sim, 'clear');
compare($node, $db, $sim, 'RIO', 'beside the commands');
is($session->run("SELECT indisvalid FROM pg_index WHERE indexrelid = 'extra'::regclass"), 't', 'the index is valid');
is($session->run(q{SET enable_seqscan = off;
	SELECT count(*) FROM pfa_mirror a WHERE NOT EXISTS (SELECT 1 FROM pfa_mirror b
		WHERE b.model IS NOT DISTINCT FROM a.model AND b.pfa_id = a.pfa_id)}), '0', 'and complete');

# ---- no space is given back ----

my %size = map { $_ => $session->run("SELECT pg_relation_size('$_')") } 'pfa_mirror';
$session->run('DELETE FROM pfa_mirror');
$session->run('VACUUM pfa_mirror');
is($session->run(q{SELECT pg_relation_size('pfa_mirror')}), $size{pfa_mirror},
	'VACUUM does not truncate the mirror');
is($session->run(q{SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class
	WHERE 'vacuum_truncate=false' = ANY (reloptions)}),
	'pfa_kpi_delta pfa_mirror pfa_mv_change pfa_sync_page pfa_sync_vanished', 'nor what is emptied again and again');

is(log_lines($node, '(deadlock detected|PANIC|terminated by signal|TRAP)'), 0, 'no deadlock, nothing crashed');
$_->close for $session, $holder;
$node->stop;
done_testing();
