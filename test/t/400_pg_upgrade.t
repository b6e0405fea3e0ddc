# pg_upgrade of a cluster with the extension (W17):
#  - succeeds with the library preloaded on both sides
#  - no worker runs meanwhile, and PEMS is asked nothing, though a sync is due
#  - everything is there afterwards: organizations, mappings, mirror, history,
#    users' own indexes
#  - the new cluster has another identifier, so its databases wait for
#    pfa_adopt_database(); then they sync without writing a record anew
use strict;
use warnings;
use Cwd;
use PfaTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $old = new_server('old');
my $db = 'postgres';
my $sim = simulator('--orgs', 'RIO:2000', '--seed', '67');

add_source($old, $db, $sim);
$old->safe_psql($db, q{
	SELECT pfa_add_organization('RIO', 'pems', NULL, '1 day');
	INSERT INTO pfa_field_mapping (organization_id, pems_alias, key, kind, default_value)
		VALUES ('RIO', 'pfs_f_class', 'class', 'text', 'none');
	CREATE INDEX of_a_user ON pfa_mirror (model);
	CREATE VIEW of_a_user_too AS SELECT category, count(*) FROM pfa_mirror GROUP BY category});
ok(synced($old, $db), 'the old cluster syncs');
is(run_sync($old, $db, 'RIO', 'full'), 'completed', 'with the mapping as it is now');

my $everything = q{
	SELECT md5(string_agg(m::text, '' ORDER BY pfa_id)) FROM pfa_mirror m
	UNION ALL SELECT md5(string_agg(m::text, '' ORDER BY organization_id, key)) FROM pfa_field_mapping m
	UNION ALL SELECT md5(string_agg(o::text, '' ORDER BY organization_id)) FROM pfa_organization o
	UNION ALL SELECT md5(string_agg(o::text, '' ORDER BY run_id)) FROM pfa_sync_run o
	UNION ALL SELECT md5(string_agg(o::text, '' ORDER BY organization_id)) FROM pfa_sync_state o
	UNION ALL SELECT indexdef FROM pg_indexes WHERE indexname = 'of_a_user'
	UNION ALL SELECT count(*)::text FROM of_a_user_too
	UNION ALL SELECT extversion FROM pg_extension WHERE extname = 'pfa_vanguard'};
$old->stop;
$old->append_conf('postgresql.conf', "shared_preload_libraries = ''\n");
$old->start;
# Overdue, should anybody look.
$old->safe_psql($db, q{UPDATE pfa_sync_state SET next_sync_at = now() - interval '1 day'});
my $before = value($old, $db, $everything);
$old->stop;
$old->append_conf('postgresql.conf', "shared_preload_libraries = 'pfa_vanguard'\n");

my $new = PostgreSQL::Test::Cluster->new('new');
$new->init;
$new->append_conf('postgresql.conf', "shared_preload_libraries = 'pfa_vanguard'\n"
	. "timezone = 'America/Lima'\ndatestyle = 'SQL, DMY'\n");
sim($sim, 'stats?reset=1');
my $bindir = $new->config_data('--bindir');
my $dir = PostgreSQL::Test::Utils::tempdir();
my $here = getcwd();
chdir $dir;
# Messages of the servers that it starts are of interest if it fails.
my ($out, $err) = PostgreSQL::Test::Utils::run_command(['pg_upgrade', '--no-sync', '-d', $old->data_dir,
	'-D', $new->data_dir, '-b', $bindir, '-B', $bindir, '-s', $new->host, '-p', $old->port, '-P', $new->port]);
like($out, qr/Upgrade Complete/, 'pg_upgrade') or diag($out =~ /(Consult.*)/ms ? $1 : $err, map { slurp_file($_) =~ /(.{1500})\z/s } glob($new->data_dir . "/pg_upgrade_output.d/*/log/pg_upgrade_dump_*.log"));
chdir $here;
like(sim($sim, 'stats'), qr/"data":0,/, 'PEMS was asked nothing');

$new->start;
is(value($new, $db, $everything), $before, 'everything is there');
ok(wait_for($new, $db, q{SELECT count(*) FROM pg_stat_activity
	WHERE application_name = 'pfa_vanguard scheduler postgres'}, 60, '1'), 'the scheduler is there');
is(value($new, $db, 'SELECT state FROM pfa_sync_status'), 'copy', 'it waits for pfa_adopt_database()');
like(sim($sim, 'stats'), qr/"data":0,/, 'and PEMS is still asked nothing');
my $due = value($new, $db, 'SELECT max(run_id) FROM pfa_sync_run');
is(value($new, $db, 'SELECT pfa_adopt_database()'), '1', 'adopted');
ok(wait_for($new, $db, "SELECT status FROM pfa_sync_run WHERE run_id > $due", 60, 'completed'), 'it syncs by itself');
is(value($new, $db, "SELECT rows_unchanged, rows_inserted + rows_updated + rows_deleted FROM pfa_sync_run WHERE run_id > $due"),
	'2000|0', 'and finds everything in place');
$new->stop;
done_testing();
