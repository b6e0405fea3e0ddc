# Records move under the reader, and none is lost.
#
# While each page is read, records are inserted, deleted and changed, before
# the page or anywhere.  What is claimed, by position, by id, and for deltas:
# - The run completes.
# - A record that is in PEMS from before the run to after it is in the mirror
#   throughout.
# - A delta run that finds PEMS at rest has seen every change and every new
#   record, also those that came while an earlier delta was reading.
# - A full run that finds PEMS at rest makes the mirror equal to it.
#
# PFA_DRIFT_ROUNDS: rounds of 27 listings each, 6 if not set.
use strict;
use warnings;

use PfaTest;
use Test::More;

my $rounds = $ENV{PFA_DRIFT_ROUNDS} // 6;
my $seed = $ENV{PFA_DRIFT_SEED} // 1;
my %orgs = map { my $kind = $_; ($kind => [ map { "$kind$_" } 1 .. 9 ]) } qw(OFF KEY DEL);
my @all = map { @{ $orgs{$_} } } sort keys %orgs;

my $sim = simulator('--orgs', join(',', map { "$_:" . (140 + 13 * /(\d)/) } @all), '--seed', $seed);
my $node = new_server('drift', conf => 'pfa_vanguard.max_concurrent_syncs = 6');

# No deletion guard: what is tested here is that nothing is missed.
$node->append_conf('postgresql.conf', 'pfa_vanguard.max_delete_fraction = 1.0');
$node->reload;
add_source($node, 'postgres', $sim, 'off', "page_size '30', requests_in_flight '3'");
add_source($node, 'postgres', $sim, 'key', "page_size '30', pagination 'keyset'");
add_source($node, 'postgres', $sim, 'del', "page_size '30', supports_delta 'on'");
is(add_organizations($node, 'postgres', lc $_, @{ $orgs{$_} }), 'completed', "first syncs, $_")
  for sort keys %orgs;

my $urls = join ' ', map { "$sim->{url}/admin/canonical?org=$_" } @all;
my $read_ids = qq{COPY canonical FROM PROGRAM 'curl -sf $urls'
	WITH (FORMAT csv, DELIMITER E'\\x02', QUOTE E'\\x01')};

# Sync once; gives runs that did not complete and records that were missing.
sub sync_under_drift
{
	my ($mode) = @_;
	return split /\n/, $node->safe_psql('postgres', qq{
		CREATE TEMP TABLE canonical (line text);
		$read_ids;
		CREATE TEMP TABLE before AS SELECT line::jsonb->>'organization' AS org,
			line::jsonb->>'pfaId' AS id FROM canonical;
		TRUNCATE canonical;
		SELECT max(run_id) AS last FROM pfa_sync_run \\gset
		SELECT pfa_sync_now(NULL, '$mode') \\g /dev/null
		SELECT pfa_sync_wait(NULL, '3 minutes') \\g /dev/null
		$read_ids;
		CREATE TEMP TABLE after AS SELECT line::jsonb->>'organization' AS org,
			line::jsonb->>'pfaId' AS id FROM canonical;
		SELECT coalesce(string_agg(organization_id || ' ' || status || ' ' || coalesce(error, ''), '; '), 'all completed')
			FROM pfa_sync_run WHERE run_id > :last AND status <> 'completed';
		SELECT coalesce(string_agg(org || ' ' || id, ', '), 'none missing')
			FROM (SELECT org, id FROM before INTERSECT SELECT org, id FROM after
				EXCEPT SELECT organization_id, pfa_id FROM pfa_mirror) x;
		SELECT sum(n) FROM (SELECT count(*) AS n FROM (SELECT * FROM before EXCEPT SELECT * FROM after) x
			UNION ALL SELECT count(*) FROM (SELECT * FROM after EXCEPT SELECT * FROM before) y) z;
	});
}

my $moved = 0;
for my $round (1 .. $rounds)
{
	for my $i (0 .. $#all)
	{
		my $n = $i + $round;
		sim($sim, "fault?kind=mutate&org=$all[$i]&inserts=" . (1 + $n % 4)
			  . '&deletes=' . ($n % 3) . '&updates=' . ($n % 2)
			  . ($n % 4 == 0 ? '&text=any' : '') . ($n % 5 == 0 ? '&every=2' : ''));
	}
	my ($runs, $missing, $changes) = sync_under_drift($round % 3 == 2 ? 'full' : 'auto');
	is($runs, 'all completed', "round $round: runs");
	is($missing, 'none missing', "round $round: records that were there throughout");
	$moved += $changes;
	sim($sim, 'clear');

	# deltas at rest: all that PEMS has is in the mirror, as it is
	is($node->safe_psql('postgres',
			"SELECT pfa_sync_now(o, 'delta') FROM unnest('{" . join(',', @{ $orgs{DEL} }) . "}'::text[]) o \\g /dev/null\n"
			  . "SELECT pfa_sync_wait(NULL, '1 minute')"), 'completed', "round $round: deltas at rest");
	my $behind = $node->safe_psql('postgres', qq{
		CREATE TEMP TABLE canonical (line text);
		$read_ids;
		SELECT coalesce(string_agg(m.organization_id || ' ' || (line::jsonb->>'pfaId'), ', '), 'none behind')
		FROM canonical LEFT JOIN pfa_mirror m ON m.organization_id = line::jsonb->>'organization'
			AND m.pfa_id = line::jsonb->>'pfaId'
		WHERE line::jsonb->>'organization' LIKE 'DEL%' AND m.data IS DISTINCT FROM line::jsonb});
	is($behind, 'none behind', "round $round: deltas have seen every change");
}
cmp_ok($moved, '>', 100 * $rounds, "$moved records came or went during the runs");

is(sync_all($node, 'postgres', 'full'), 'completed', 'full runs at rest');
compare($node, 'postgres', $sim, \@all, 'full runs at rest');
is(value($node, 'postgres', "SELECT string_agg(DISTINCT mode, ',' ORDER BY mode) FROM pfa_sync_run
	WHERE organization_id LIKE 'DEL%'"), 'delta,full', 'deltas were among the runs');

done_testing();
