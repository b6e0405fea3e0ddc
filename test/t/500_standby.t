# A standby and its promotion:
#  - on the standby nothing runs; the mirror and pfa_sync_status can be read,
#    and what would write says why it cannot
#  - after the promotion syncing starts by itself, and the run that was under
#    way on the primary is taken up and completes
#  - syncs take no ACCESS EXCLUSIVE lock, which would cancel queries on the
#    standby: none is in the WAL, and a long query there survives
use strict;
use warnings;
use PfaTest;
use Test::More;

my $primary = new_server('primary', init => { allows_streaming => 1 },
	conf => "wal_keep_size = '64MB'\n");
my $db = 'postgres';
my $sim = simulator('--orgs', 'RIO:3000,LIMA:1000', '--seed', '29');

$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->append_conf('postgresql.conf', "max_standby_streaming_delay = '200ms'\nhot_standby_feedback = on\n");
$standby->start;

add_source($primary, $db, $sim, 'pems', q{page_size '500', timeout '300'});
my $start = value($primary, $db, 'SELECT pg_current_wal_lsn()');
$primary->safe_psql($db,
	"SELECT pfa_add_organization(o, 'pems', NULL, '1 day') FROM unnest('{RIO,LIMA}'::text[]) o");
ok(synced($primary, $db), 'the primary syncs');
$primary->wait_for_catchup($standby);

# ---- on the standby ----

is(value($standby, $db, q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'pfa%'}), '0',
	'nothing of ours runs on a standby');
is(value($standby, $db, 'SELECT count(*), count(DISTINCT data) FROM pfa_mirror'), '4000|4000',
	'the mirror can be read there');
is(value($standby, $db, 'SELECT DISTINCT state, reason FROM pfa_sync_status'),
	'idle|this server is a standby, syncs run on the primary', 'pfa_sync_status says where syncs run');
for my $call (q{SELECT pfa_sync_now('RIO')}, q{CALL pfa_sync('RIO')}, 'SELECT pfa_sync_cancel(1)')
{
	my ($rc, $out, $err) = $standby->psql($db, $call);
	like($err, qr/cannot execute .* during recovery.*HINT/s, "$call: says why not");
}
for my $call (q{SELECT pfa_pause_organization('RIO')}, q{SELECT pfa_resume_organization('RIO')},
	q{SELECT pfa_remove_organization('RIO')}, q{SELECT pfa_add_organization('X', 'pems')},
	'SELECT pfa_adopt_database()')
{
	my ($rc, $out, $err) = $standby->psql($db, $call);
	like($err, qr/cannot execute .* (read-only transaction|during recovery)/, "$call: refused");
}
is(value($standby, $db, q{SELECT ok FROM pfa_test_source('pems')}), 't',
	'pfa_test_source works there');

# ---- no lock that cancels queries ----

my $reader = session($standby, $db);
my $query = 'SELECT count(*), pg_sleep(6) FROM pfa_mirror';
$reader->start($query);
# it sleeps once it has read, so it has its snapshot
ok(wait_for($standby, $db, q{SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event = 'PgSleep'}),
	'a long query is under way');
for (1 .. 4)
{
	sim($sim, 'change?org=RIO&count=100');
	sim($sim, 'insert?org=RIO&count=20&scattered=1');
	sim($sim, 'delete?org=RIO&count=20');
	is(run_sync($primary, $db, 'RIO', 'full'), 'completed', 'a sync with changes');
}
$primary->safe_psql($db, 'CHECKPOINT');
$primary->wait_for_catchup($standby);
like($reader->result, qr/^4000\|$/, 'a long query on the standby survives them');
is(value($standby, $db, "SELECT confl_lock FROM pg_stat_database_conflicts WHERE datname = '$db'"), '0',
	'none was cancelled for a lock');
$reader->close;
my $end = value($primary, $db, 'SELECT pg_current_wal_lsn()');
my ($dump, $errors) = PostgreSQL::Test::Utils::run_command(['pg_waldump', '-p', $primary->data_dir . '/pg_wal',
	'-r', 'Standby', '-s', $start, '-e', $end]);
like($dump, qr/RUNNING_XACTS/, 'the WAL of that time');
# A refresh locks the transient relation that it makes itself, and no other.
my @ours = split /\n/, value($primary, $db, "SELECT c.oid FROM pg_class c JOIN pg_depend d
	ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e' WHERE c.relkind = 'r'");
my $ours = join '|', @ours;
unlike($dump, qr/desc: LOCK xid \d+ db \d+ rel ($ours)\b/, 'no ACCESS EXCLUSIVE lock on a table of ours is in it');
compare($primary, $db, $sim, 'RIO', 'primary');

# ---- promotion ----

sim($sim, 'fault?kind=hang&after=1000');
my $run = value($primary, $db, q{SELECT pfa_sync_now('RIO', 'full')});
ok(wait_for($primary, $db,
	"SELECT rows_seen >= 500 FROM pfa_sync_status WHERE organization_id = 'RIO'"),
	'a run hangs on the primary');
$primary->wait_for_catchup($standby);
is(value($standby, $db, q{SELECT state, reason FROM pfa_sync_status WHERE organization_id = 'RIO'}),
	'running|runs on the primary', 'the standby shows it');
$primary->stop('immediate');
$standby->promote;
ok(wait_for($standby, $db,
	"SELECT attempt >= 2 AND worker_pid IS NOT NULL FROM pfa_sync_run WHERE run_id = $run", 15),
	'after the promotion the run is taken up within 15 s');
sim($sim, 'clear');
is(value($standby, $db, "SELECT pfa_sync_wait($run, '30 s')"), 'completed', 'and completes');
compare($standby, $db, $sim, 'RIO', 'promoted');
is(run_sync($standby, $db, 'LIMA'), 'completed', 'and so do others');
is(log_lines($standby, '(PANIC|terminated by signal|TRAP)'), 0, 'nothing crashed');
$standby->stop;
done_testing();
