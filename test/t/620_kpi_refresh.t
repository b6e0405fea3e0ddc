# Materialized views
#  - are refreshed when the mirror has changed and the interval is over, and
#    left alone when it has not,
#  - are refreshed by pfa_refresh_mv(), which skips one that has not changed,
#    and sees what its own transaction wrote,
#  - are never refreshed by two at a time; who comes in between does not wait,
#    and what he meant is in the view in the end,
#  - are mended: unique index dropped, view not populated, a partial index
#    added, null categories and sources,
#  - and if that cannot be, tell so once, and are tried again,
#  - block no reader.
use strict;
use warnings;
use IPC::Run;
use PfaTest;
use Test::More;

my $node = new_server('main', conf => "pfa_vanguard.view_refresh_interval = 1d\n");

my $current = q{
	SELECT (SELECT coalesce(sum(record_count), 0) FROM mv_pfa_kpi_stats) = (SELECT count(*) FROM pfa_mirror WHERE NOT is_discontinued)
		AND (SELECT coalesce(sum(record_count), 0) FROM mv_pfa_timeline_bounds) = (SELECT count(*) FROM pfa_mirror)};

sub put
{
	my ($id, $category) = @_;
	$category = defined $category ? qq{"$category"} : 'null';
	$node->safe_psql('postgres', qq{
		INSERT INTO pfa_mirror (organization_id, data) VALUES ('RIO', '{"pfaId": "$id", "category": $category, "planCost": 1,
			"originalStart": "2026-01-0$id", "originalEnd": "2026-02-0$id"}')});
}

sub refresh
{
	my ($view) = @_;
	return $node->safe_psql('postgres', sprintf
		'SELECT view_name, refreshed, rows FROM pfa_refresh_mv(%s)', $view ? "'$view'" : '');
}

sub set_interval
{
	my ($interval) = @_;
	$node->safe_psql('postgres', "ALTER SYSTEM SET pfa_vanguard.view_refresh_interval = '$interval'");
	turn();
}

# Have the scheduler take a turn, and wait for its end: two rounds that end
# asleep hold a whole one.
sub turn
{
	for (1 .. 2)
	{
		my $since = $node->safe_psql('postgres', 'SELECT clock_timestamp()');
		$node->safe_psql('postgres', 'SELECT pg_reload_conf()');
		wait_for($node, 'postgres', qq{
			SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name = 'pfa_vanguard scheduler postgres'
			AND state = 'idle' AND wait_event_type = 'Extension' AND state_change > '$since'});
	}
}

sub refreshed_at
{
	return $node->safe_psql('postgres', 'SELECT max(refreshed_at) FROM pfa_mv_refresh');
}

# Views that were never refreshed are due at once; from then on the interval
# counts.
put(1, 'Cranes');
ok(wait_for($node, 'postgres', $current, 30), 'views are filled after the first change');
ok(wait_for($node, 'postgres', 'SELECT count(*) FROM pfa_mv_change', 30, '0'), 'and nothing is left to do');

# on demand
is(refresh(), "mv_pfa_kpi_stats|f|1\nmv_pfa_timeline_bounds|f|1", 'nothing has changed');
put(2, undef);
is(refresh('mv_pfa_kpi_stats'), 'mv_pfa_kpi_stats|t|2', 'one view');
is(refresh(), "mv_pfa_kpi_stats|f|2\nmv_pfa_timeline_bounds|t|1", 'and then the other');
is( $node->safe_psql('postgres', q{SET datestyle = iso; SELECT * FROM pfa_timeline_bounds()}),
	'RIO|2026-01-01|2026-02-02|||||2', 'pfa_timeline_bounds()');
is( $node->safe_psql('postgres', q{
	BEGIN;
	UPDATE pfa_mirror SET data = data || '{"category": null}';
	SELECT refreshed, rows FROM pfa_refresh_mv('mv_pfa_kpi_stats');
	UPDATE pfa_mirror SET data = data || '{"source": "Rental"}';
	SAVEPOINT a;
	SELECT refreshed FROM pfa_refresh_mv('mv_pfa_kpi_stats');
	ROLLBACK TO a;
	SELECT refreshed FROM pfa_refresh_mv('mv_pfa_kpi_stats');
	COMMIT;
	SELECT category IS NULL, source, record_count FROM mv_pfa_kpi_stats}),
	"t|1\nt\nt\nt|Rental|2", 'it sees its own transaction, and null keys');
my ($rc, $out, $err) = $node->psql('postgres', q{SELECT * FROM pfa_refresh_mv('mv_nonsense')});
like($err, qr/unknown materialized view "mv_nonsense".*mv_pfa_kpi_stats, mv_pfa_timeline_bounds/s, 'unknown name');
is(refresh('mv_pfa_timeline_bounds'), 'mv_pfa_timeline_bounds|t|1', 'the last view');

# by the interval
my $before = refreshed_at();
put(3, 'Lifts');
turn();
is(refreshed_at(), $before, 'not before the interval is over');
set_interval('1s');
ok(wait_for($node, 'postgres', $current, 30), 'but then');
ok(wait_for($node, 'postgres', 'SELECT count(*) FROM pfa_mv_change', 30, '0'), 'nothing is left to do');
$before = refreshed_at();
ok(wait_for($node, 'postgres', "SELECT clock_timestamp() > '$before'::timestamptz + interval '2 seconds'", 30), 'the interval is over');
turn();
is(refreshed_at(), $before, 'no refresh while nothing changes');
set_interval('1d');

# what is broken is mended
$node->safe_psql('postgres', 'DROP INDEX mv_pfa_kpi_stats_key');
put(4, 'Pumps');
is(refresh(), "mv_pfa_kpi_stats|t|3\nmv_pfa_timeline_bounds|t|1", 'unique index dropped');
is( $node->safe_psql('postgres', q{
	SELECT count(*) FROM pg_index WHERE indrelid = 'mv_pfa_kpi_stats'::regclass AND indisunique}),
	1, 'and there again');
$node->safe_psql('postgres', q{
	REFRESH MATERIALIZED VIEW mv_pfa_kpi_stats WITH NO DATA;
	REFRESH MATERIALIZED VIEW mv_pfa_timeline_bounds WITH NO DATA});
($rc, $out, $err) = $node->psql('postgres', 'SELECT * FROM pfa_timeline_bounds()');
like($err, qr/has not been populated/, 'reading a view without data');
is(refresh(), "mv_pfa_kpi_stats|t|3\nmv_pfa_timeline_bounds|t|1", 'WITH NO DATA');
$node->safe_psql('postgres', q{
	DROP INDEX mv_pfa_timeline_bounds_key;
	CREATE UNIQUE INDEX mine ON mv_pfa_timeline_bounds (organization_id) WHERE record_count > 0;
	CREATE UNIQUE INDEX mine_too ON mv_pfa_timeline_bounds (lower(organization_id))});
put(5, 'Pumps');
is(refresh('mv_pfa_timeline_bounds'), 'mv_pfa_timeline_bounds|t|1', 'partial and expression indexes do not count');
refresh();

# a reader's lock, and another's refresh
my $holder = $node->background_psql('postgres');
$holder->query_safe('BEGIN; SELECT count(*) FROM mv_pfa_kpi_stats; SELECT count(*) FROM mv_pfa_timeline_bounds');
put(6, 'Trucks');
is(refresh(), "mv_pfa_kpi_stats|t|4\nmv_pfa_timeline_bounds|t|1", 'readers do not hold up a refresh');
$holder->query_safe('COMMIT');

# many at once: one works, the others do not wait, and nothing is lost
$node->safe_psql('postgres', q{
	INSERT INTO pfa_mirror (organization_id, data)
		SELECT 'BIG', jsonb_build_object('pfaId', 'B' || i, 'category', 'C' || i % 100) FROM generate_series(1, 50000) i});
my @sessions;
for my $i (1 .. 20)
{
	push @sessions, IPC::Run::start(
		[ 'psql', '-XAtq', '-h', $node->host, '-p', $node->port, '-c',
			"INSERT INTO pfa_mirror (organization_id, data) VALUES ('MANY', '{\"pfaId\": \"M$i\"}')", '-c',
			'SELECT refreshed FROM pfa_refresh_mv()', 'postgres' ],
		'>', \my $result, '2>', \my $error);
}
$_->finish for @sessions;
ok(wait_for($node, 'postgres', $current, 60), 'what many asked for at a time is in the views in the end');
is( $node->safe_psql('postgres', q{SELECT record_count FROM mv_pfa_timeline_bounds WHERE organization_id = 'MANY'}),
	20, 'all of it');

# what cannot be mended is told once, and tried again
ok(wait_for($node, 'postgres', 'SELECT count(*) FROM pfa_mv_change', 60, '0'), 'nothing is left to do');
$holder->query_safe('BEGIN; REFRESH MATERIALIZED VIEW mv_pfa_kpi_stats');
set_interval('1s');
put(7, 'Trucks');
ok( wait_for($node, 'postgres', q{SELECT count(*) FROM pfa_event_log WHERE code = 'refresh_failed'}, 60, '1'),
	'a refresh that fails is an event');
$holder->query_safe('ROLLBACK');
$holder->quit;
ok(wait_for($node, 'postgres', $current, 90), 'and it is tried again');
ok( wait_for($node, 'postgres', q{SELECT count(*) FROM pfa_event_log WHERE code = 'refresh_recovered'}, 30, '1'),
	'which is an event too');

# nobody is granted the views
$node->safe_psql('postgres', 'CREATE ROLE nobody_special');
($rc, $out, $err) = $node->psql('postgres', 'SET ROLE nobody_special; SELECT * FROM mv_pfa_kpi_stats');
like($err, qr/permission denied/, 'mv_pfa_kpi_stats is granted to nobody');
($rc, $out, $err) = $node->psql('postgres', 'SET ROLE nobody_special; SELECT * FROM pfa_kpi_stats()');
like($err, qr/permission denied/, 'pfa_kpi_stats() is for those who are granted it');

done_testing();
