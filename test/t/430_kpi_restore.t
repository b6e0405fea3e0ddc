# A restored database has right KPI by itself, counted once:
#  - plain, custom and parallel restores, with search_path empty,
#  - pfa_kpi is not dumped, and no view is,
#  - the materialized views are refreshed by the scheduler,
#  - rows that were loaded with triggers disabled are told by pfa_kpi_verify(),
#    and pfa_kpi_rebuild() counts them,
#  - a template's copy, and a standby, have them as the original.
use strict;
use warnings;
use PfaTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('main', init => { allows_streaming => 1 });
my $dir = $node->basedir;

$node->safe_psql('postgres', q{
	INSERT INTO pfa_mirror (organization_id, data)
	SELECT 'ORG' || i % 3, jsonb_build_object('pfaId', 'P' || i, 'category', (ARRAY['Cranes', NULL])[1 + i % 2],
		'planCost', i * 1.25, 'forecastCost', i, 'monthlyRate', i / 3.0, 'originalStart', '2026-01-01', 'isDiscontinued', i % 7 = 0)
	FROM generate_series(1, 2000) i;
	UPDATE pfa_mirror SET data = data || '{"dor": "BEO"}' WHERE pfa_id LIKE '%5'});
my $live = $node->safe_psql('postgres', 'SELECT * FROM pfa_kpi_stats() ORDER BY 1, 2, 3');

my $current = q{
	SELECT (SELECT coalesce(sum(record_count), 0) FROM mv_pfa_kpi_stats) = (SELECT count(*) FROM pfa_mirror WHERE NOT is_discontinued)
		AND (SELECT coalesce(sum(record_count), 0) FROM mv_pfa_timeline_bounds) = (SELECT count(*) FROM pfa_mirror)};

sub check_restored
{
	my ($db) = @_;
	is($node->safe_psql($db, 'SELECT * FROM pfa_kpi_verify()'), '', "$db: KPI equal a recount");
	is($node->safe_psql($db, 'SELECT * FROM pfa_kpi_stats() ORDER BY 1, 2, 3'), $live, "$db: and those of the original");
	ok(wait_for($node, $db, $current, 30), "$db: views are refreshed");
}

$node->command_ok([ 'pg_dump', '-h', $node->host, '-p', $node->port, '-f', "$dir/plain.sql", 'postgres' ], 'pg_dump');
unlike(slurp_file("$dir/plain.sql"), qr/COPY public\.(pfa_kpi|pfa_mv|mv_)/, 'no KPI and no view is dumped');
$node->command_ok([ 'pg_dump', '-h', $node->host, '-p', $node->port, '-Fc', '-f', "$dir/custom.dump", 'postgres' ], 'pg_dump -Fc');

$node->safe_psql('postgres', 'CREATE DATABASE plain');
$node->command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-h', $node->host, '-p', $node->port, '-f', "$dir/plain.sql", 'plain' ], 'restored by psql');
check_restored('plain');

$node->safe_psql('postgres', 'CREATE DATABASE parallel');
$node->command_ok([ 'pg_restore', '-e', '-j', '2', '-h', $node->host, '-p', $node->port, '-d', 'parallel', "$dir/custom.dump" ], 'restored in parallel');
check_restored('parallel');

# The data alone, into a database that has the extension
$node->safe_psql('postgres', 'CREATE DATABASE data');
$node->safe_psql('data', 'CREATE EXTENSION pfa_vanguard');
$node->command_ok([ 'pg_restore', '-e', '--data-only', '-t', 'pfa_mirror', '-h', $node->host, '-p', $node->port, '-d', 'data', "$dir/custom.dump" ], 'restored the data alone');
check_restored('data');

$node->safe_psql('postgres', 'CREATE DATABASE disabled');
$node->safe_psql('disabled', 'CREATE EXTENSION pfa_vanguard');
$node->command_ok([ 'pg_restore', '-e', '--data-only', '--disable-triggers', '-t', 'pfa_mirror', '-h', $node->host, '-p', $node->port, '-d', 'disabled', "$dir/custom.dump" ], 'restored with triggers disabled');
cmp_ok($node->safe_psql('disabled', 'SELECT count(*) FROM pfa_kpi_verify()'), '>', 0, 'which pfa_kpi_verify() tells');
is($node->safe_psql('disabled', 'SELECT pfa_kpi_rebuild()'), 2000, 'and pfa_kpi_rebuild() mends');
check_restored('disabled');

$node->safe_psql('postgres', 'CREATE DATABASE copy TEMPLATE plain');
check_restored('copy');

# A standby reads, and writes nothing.
$node->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'backup', has_streaming => 1);
$standby->start;
$node->safe_psql('postgres', q{UPDATE pfa_mirror SET data = data || jsonb_build_object('planCost', substr(pfa_id, 2)::int) WHERE organization_id = 'ORG1'}) for 1 .. 50;
$node->wait_for_catchup($standby);
is($standby->safe_psql('postgres', 'SELECT * FROM pfa_kpi_verify()'), '', 'standby: KPI equal a recount');
isnt($standby->safe_psql('postgres', 'SELECT * FROM pfa_kpi_stats() ORDER BY 1, 2, 3'), $live, 'standby: of the present');
my ($rc, $out, $err) = $standby->psql('postgres', 'SELECT * FROM pfa_refresh_mv()');
like($err, qr/cannot execute pfa_refresh_mv\(\) during recovery/, 'standby: a refresh is refused');
$standby->promote;
ok(wait_for($standby, 'postgres', $current, 60), 'after promotion views are refreshed');
is($standby->safe_psql('postgres', 'SELECT * FROM pfa_kpi_verify()'), '', 'and KPI equal a recount');

done_testing();
