# A full disk (S3), by a library that has files below a directory not grow:
#  - under the mirror only: the sync fails and says so, the rest of the database
#    can be written; no PANIC, no crash, and what was written stays
#  - what is due waits for a while, a request tries at once; health is down
#  - it is not tried again in a loop, and the log is not flooded
#  - with room again the next sync goes on from what is there
#  - under a whole database, queue and history included: the same
use strict;
use warnings;
use Cwd;
use PfaTest;
use Test::More;
use Time::HiRes qw(time usleep);

my $dir = PostgreSQL::Test::Utils::tempdir();
my $disk = "$dir/disk";
mkdir $disk or die;
$disk = Cwd::abs_path($disk);
my $shim = preload_shim('disk_full');
plan skip_all => 'needs a C compiler' unless defined $shim;

my $node = new_server('main');
my $db = 'postgres';
my $sim = simulator('--orgs', 'RIO:4000,LIMA:500', '--seed', '59');

$node->stop;
{
	local $ENV{LD_PRELOAD} = $shim;
	local $ENV{PFA_DISK} = $disk;
	$node->start;
}
setting($node, 'pfa_vanguard.max_concurrent_syncs', 1);

sub full
{
	my ($full) = @_;
	if ($full)
	{
		open(my $file, '>', "$disk.full") or die;
		close $file;
	}
	else
	{
		unlink "$disk.full";
	}
}

sub requests
{
	return sim($sim, 'stats') =~ /"data":(\d+)/ ? $1 : undef;
}

# ---- the mirror ----

add_source($node, $db, $sim, 'pems', q{page_size '300', requests_in_flight '1'});
$node->safe_psql($db, "CREATE TABLESPACE small LOCATION '$disk'");
$node->safe_psql($db, 'ALTER TABLE pfa_mirror SET TABLESPACE small');
$node->safe_psql($db, "ALTER INDEX $_ SET TABLESPACE small")
  for split /\n/, value($node, $db, q{SELECT indexrelid::regclass FROM pg_index WHERE indrelid = 'pfa_mirror'::regclass});
sim($sim, 'fault?kind=hang&after=2000');
$node->safe_psql($db, q{SELECT pfa_add_organization('RIO', 'pems', NULL, '1 day')});
ok(wait_for($node, $db, q{SELECT count(*) > 1500 FROM pfa_mirror}, 20), 'half of the mirror is there');
my $stored = value($node, $db, 'SELECT count(*) FROM pfa_mirror');
my $offset = -s $node->logfile;
full(1);
sim($sim, 'clear');
ok(wait_for($node, $db, q{SELECT status FROM pfa_sync_run}, 20, 'failed'), 'the disk is full: the sync fails');
like(value($node, $db, 'SELECT error FROM pfa_sync_run'), qr/No space left on device/, 'and says why');
like(value($node, $db, 'SELECT last_error FROM pfa_sync_status'), qr/No space left on device/, 'the status too');
is(value($node, $db, 'SELECT state FROM pfa_sync_status'), 'backoff', 'it backs off');
is(value($node, $db, q{SELECT count(*) FROM pfa_event_log WHERE level = 'error' AND message LIKE '%No space%'}), '1',
	'there is one event');
is(value($node, $db, q{SELECT concat_ws('|', h->>'status', h->'checks'->'disk'->>'status') FROM pfa_health() h}), 'down|down',
	'health: down');
$node->safe_psql($db, q{UPDATE pfa_sync_state SET next_sync_at = now() - interval '1 minute'; SELECT pfa_resume_organization('RIO')});
is(value($node, $db, 'SELECT reason FROM pfa_sync_status'), 'the disk is full, pfa_sync_now() tries at once',
	'what is due waits');
my $requests = requests();
$node->safe_psql($db, 'CREATE TABLE t AS SELECT generate_series(1, 10000) AS i');
is(value($node, $db, 'SELECT count(*) FROM t'), '10000', 'other tables can be written');
cmp_ok(value($node, $db, 'SELECT count(*) FROM pfa_mirror'), '>=', $stored, 'what was written is still there');
is(run_sync($node, $db, 'RIO'), 'failed', 'a request fails in the same way');
cmp_ok(log_lines($node, 'No space left on device', $offset), '<=', 6, 'the log is not flooded');
# The first page, the one after it, and what failed.
cmp_ok(requests() - $requests, '<=', 12, 'nor is PEMS asked again and again');
$stored = value($node, $db, 'SELECT count(*) FROM pfa_mirror');
full(0);
is(run_sync($node, $db, 'RIO'), 'completed', 'with room again it completes');
compare($node, $db, $sim, 'RIO', 'after the full disk');
is(value($node, $db, q{SELECT pfa_health()->'checks'->'disk'}), '', 'health: the disk is not full any more');
is(value($node, $db, 'SELECT rows_inserted FROM pfa_sync_run ORDER BY run_id DESC LIMIT 1'), 4000 - $stored,
	'and has written only what was not there');

# ---- a whole database ----

$node->safe_psql($db, 'CREATE DATABASE second TABLESPACE small');
$node->safe_psql('second', 'CREATE EXTENSION pfa_vanguard');
add_source($node, 'second', $sim, 'pems', q{page_size '100', requests_in_flight '1'});
sim($sim, 'fault?kind=hang&after=200&org=LIMA');
$node->safe_psql('second', q{SELECT pfa_add_organization('LIMA', 'pems', NULL, '1 day')});
ok(wait_for($node, 'second', q{SELECT count(*) > 100 FROM pfa_mirror}, 20), 'a database on the small disk');
# Fill what room there is in the pages of queue and history.
$node->safe_psql('second', 'VACUUM FREEZE');
$offset = -s $node->logfile;
$requests = requests();
full(1);
sim($sim, 'clear');
ok($node->wait_for_log(qr/No space left on device/, $offset), 'the disk is full');
# As long as it would take to flood the log, or PEMS.
usleep(5_000_000);
cmp_ok(log_lines($node, 'No space left on device', $offset), '<=', 25, 'the log is not flooded');
cmp_ok(requests() - $requests, '<=', 60, 'nor PEMS');
is(run_sync($node, $db, 'RIO'), 'completed', 'other databases are synced');
full(0);
my $end = time + 60;
until (value($node, 'second', q{SELECT status FROM pfa_sync_run ORDER BY run_id DESC LIMIT 1}) eq 'completed' || time > $end)
{
	$node->psql('second', q{SELECT pfa_sync_wait(pfa_sync_now, '5 s') FROM pfa_sync_now('LIMA')});
	$node->psql('second', q{SELECT pfa_sync_now('LIMA')});
	usleep(200_000);
}
is(value($node, 'second', q{SELECT status FROM pfa_sync_run ORDER BY run_id DESC LIMIT 1}), 'completed',
	'with room again it completes');
compare($node, 'second', $sim, 'LIMA', 'after the full disk');

is(log_lines($node, '(PANIC|terminated by signal|TRAP)'), 0, 'nothing crashed');
$node->stop;
done_testing();
