# Syncs write past triggers and keep the KPI all the same:
#  - no difference while a first sync, two of its workers and others write,
#    nor after it, after changes, deletions, a cancelled and a killed sync,
#    and the removal of an organization,
#  - the same where a trigger of a user has syncs write by SQL,
#  - the materialized views are refreshed after a sync that changed something,
#    and not after one that changed nothing,
#  - a foreground sync without shared_preload_libraries does it too.
use strict;
use warnings;
use PfaTest;
use Test::More;

my $sim = simulator('--orgs', 'RIO:30000,LIMA:3000,QUITO:500', '--seed', '11');
my $node = new_server('main', conf => "pfa_vanguard.view_refresh_interval = 1d\n");

sub no_differences
{
	my ($name) = @_;
	is($node->safe_psql('postgres', 'SELECT * FROM pfa_kpi_verify()'), '', "$name: KPI equal a recount");
}

# Sync while looking all the time; returns the run's status.
sub sync_watched
{
	my ($org, $name, $mode) = @_;
	my $run = $node->safe_psql('postgres', "SELECT pfa_sync_now('$org', '" . ($mode // 'auto') . "')");
	my $differences = 0;
	my $looks = 0;
	my $status;
	do
	{
		$differences += $node->safe_psql('postgres', 'SELECT count(*) FROM pfa_kpi_verify()');
		$looks++;
		$status = $node->safe_psql('postgres', "SELECT status FROM pfa_sync_run WHERE run_id = $run");
	} while ($status eq 'queued' || $status eq 'running');
	is($differences, 0, "$name: no difference while it ran ($looks looks)");
	no_differences($name);
	return $status;
}

# The view as it is, against the specification's statement run now.
my $view_differs = q{
	WITH now AS (
		SELECT organization_id, category, source, COUNT(*) as record_count,
			SUM((data->>'forecastCost')::numeric) as total_forecast_cost,
			SUM((data->>'planCost')::numeric) as total_plan_cost,
			AVG((data->>'monthlyRate')::numeric) as avg_monthly_rate
		FROM pfa_mirror WHERE is_discontinued = false
		GROUP BY organization_id, category, source),
	live AS (SELECT organization_id, category, source, record_count,
			total_forecast_cost, total_plan_cost, avg_monthly_rate FROM pfa_kpi_stats())
	SELECT (SELECT count(*) FROM (TABLE now EXCEPT TABLE mv_pfa_kpi_stats) a)
		+ (SELECT count(*) FROM (TABLE mv_pfa_kpi_stats EXCEPT TABLE now) a)
		+ (SELECT count(*) FROM (TABLE now EXCEPT TABLE live) a)
		+ (SELECT count(*) FROM (TABLE live EXCEPT TABLE now) a)};

sub refreshed
{
	my ($name) = @_;
	ok(wait_for($node, 'postgres', $view_differs, 120, '0')
		&& wait_for($node, 'postgres', 'SELECT count(*) FROM pfa_mv_change', 60, '0'),
		"$name: the view has the specification's numbers, and so has pfa_kpi_stats()");
}

add_source($node, 'postgres', $sim);
$node->safe_psql('postgres', "SELECT pfa_add_organization(o, 'pems', NULL, '1 day') FROM unnest('{RIO,LIMA,QUITO}'::text[]) o");
wait_sync($node, 'postgres');
no_differences('first syncs');
compare($node, 'postgres', $sim, 'RIO', 'first sync');
cmp_ok($node->safe_psql('postgres', q{SELECT sum(record_count) FROM pfa_kpi_stats('RIO')}), '>', 20000, 'there are numbers');
refreshed('first syncs');

my $refreshed_at = $node->safe_psql('postgres', 'SELECT max(refreshed_at) FROM pfa_mv_refresh');
is(sync_watched('RIO', 'nothing new', 'full'), 'completed', 'sync without news');
is( $node->safe_psql('postgres', 'SELECT max(refreshed_at) FROM pfa_mv_refresh'),
	$refreshed_at, 'nothing is refreshed for it');
is($node->safe_psql('postgres', 'SELECT count(*) FROM pfa_mv_change'), 0, 'nor noted');

sim($sim, 'change?org=RIO&fraction=0.2');
is(sync_watched('RIO', 'changes', 'full'), 'completed', 'sync of changes');
refreshed('changes');
sim($sim, 'insert?org=RIO&count=2000&scattered=1');
sim($sim, 'delete?org=RIO&count=3000');
is(sync_watched('RIO', 'insertions and deletions', 'full'), 'completed', 'sync of insertions and deletions');
compare($node, 'postgres', $sim, 'RIO', 'after them');
refreshed('insertions and deletions');

# A worker that dies in the middle
sim($sim, 'change?org=RIO&fraction=0.5');
my $run = $node->safe_psql('postgres', "SELECT pfa_sync_now('RIO', 'full')");
wait_for($node, 'postgres', "SELECT count(*) > 0 FROM pfa_sync_page", 30);
$node->safe_psql('postgres', qq{
	SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pfa_vanguard sync RIO'});
no_differences('a worker ended');
wait_sync($node, 'postgres');
no_differences('its run ended');
compare($node, 'postgres', $sim, 'RIO', 'its run ended');

# Whoever has a trigger gets statements
$node->safe_psql('postgres', q{
	CREATE FUNCTION noop() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
	CREATE TRIGGER noop AFTER INSERT OR UPDATE OR DELETE ON pfa_mirror FOR EACH ROW EXECUTE FUNCTION noop()});
sim($sim, 'change?org=LIMA&fraction=0.5');
sim($sim, 'insert?org=LIMA&count=100');
sim($sim, 'delete?org=LIMA&count=100');
is(sync_watched('LIMA', 'by SQL', 'full'), 'completed', 'sync by SQL');
compare($node, 'postgres', $sim, 'LIMA', 'by SQL');
$node->safe_psql('postgres', 'DROP TRIGGER noop ON pfa_mirror');

$node->safe_psql('postgres', "SELECT pfa_remove_organization('LIMA')");
no_differences('an organization was removed');
is($node->safe_psql('postgres', "SELECT count(*) FROM pfa_kpi_stats('LIMA')"), 0, 'its KPI are gone');
refreshed('removal');
ok( wait_for($node, 'postgres', q{SELECT count(*) FROM pfa_kpi_delta}, 30, '0'), 'deltas are compacted');
is( $node->safe_psql('postgres', q{SELECT count(*) FROM pfa_kpi WHERE organization_id = 'LIMA'}),
	0, 'no row of it is left');

# Without preloading
my $plain = new_server('plain', preload => 0);
add_source($plain, 'postgres', $sim);
$plain->safe_psql('postgres', "SELECT pfa_add_organization(o, 'pems') FROM unnest('{RIO,QUITO}'::text[]) o");
$plain->safe_psql('postgres', "CALL pfa_sync('RIO')");
is($plain->safe_psql('postgres', 'SELECT * FROM pfa_kpi_verify()'), '', 'foreground sync: KPI equal a recount');
cmp_ok($plain->safe_psql('postgres', 'SELECT count(*) FROM pfa_kpi_delta'), '<', 100, 'and are compacted');
$plain->safe_psql('postgres', "UPDATE pfa_mirror SET data = data || '{\"planCost\": 1}' WHERE pfa_id = '$_'")
  for split /\n/, $plain->safe_psql('postgres', 'SELECT pfa_id FROM pfa_mirror LIMIT 5');
is($plain->safe_psql('postgres', 'SELECT * FROM pfa_kpi_verify()'), '', 'the same after updates');
is( $plain->safe_psql('postgres', 'SELECT bool_and(refreshed) FROM pfa_refresh_mv()'),
	't', 'views are refreshed on demand');

done_testing();
