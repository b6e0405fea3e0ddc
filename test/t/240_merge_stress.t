# A hundred clients of twenty users work on the same few hundred records, each
# call at random: drafts, commits, discards, pages, records, the view, while
# syncs write and somebody plays the write to PEMS.
#  1. Nobody deadlocks, and no call fails.
#  2. Afterwards drafts, KPI and mirror are as they should be.
# PFA_SECONDS makes it a longer run; tools/stress_merge runs it for five minutes.
use strict;
use warnings;

use PfaTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $seconds = $ENV{PFA_SECONDS} // 10;
my $sim = simulator('--orgs', 'ORG1:400,ORG2:400', '--seed', 5);
my $node = new_server('stress',
	conf => "max_connections = 150\ndeadlock_timeout = 100ms\nautovacuum_naptime = 1s\n"
	  . "pfa_vanguard.view_refresh_interval = 2s\n");

add_source($node, 'postgres', $sim, 'pems', "page_size '100'");
is(add_organizations($node, 'postgres', 'pems', 'ORG1', 'ORG2'), 'completed', 'first syncs');
$node->safe_psql('postgres', q{
	SET client_min_messages = error;
	CREATE ROLE api LOGIN;
	SELECT pfa_grant_access('api', 'operator');
	GRANT SET ON PARAMETER pfa_vanguard.user_id TO api;
	INSERT INTO pfa_user_organization
		SELECT 'user' || u, o, 'editor' FROM generate_series(1, 20) u, unnest('{ORG1,ORG2}'::text[]) o;
	-- the records by number
	CREATE TABLE ids AS SELECT organization_id, row_number() OVER (PARTITION BY organization_id ORDER BY pfa_id) AS n, pfa_id FROM pfa_mirror;
	CREATE UNIQUE INDEX ON ids (organization_id, n) INCLUDE (pfa_id);
	GRANT SELECT ON ids TO api;
});

# Some calls, each a transaction of its own by a random user; pgbench replaces
# variables within quotes, too, in simple query mode.  Any error ends a client.
my $dir = $node->basedir;
my $choose = q{
	\set u random(1, 20)
	\set o random(1, 2)
	\set i random(1, 400)
	\set v random(1, 3)
};
my $from = q{FROM set_config('pfa_vanguard.user_id', 'user:u', true)};
my %script = (
	# records in no order at all
	draft => [ 30, qq{
		SELECT pfa_draft('ORG:o', (SELECT jsonb_agg(jsonb_build_object('pfaId', pfa_id,
				'delta', jsonb_build_object('category', 'of user:u', 'monthlyRate', :v)) ORDER BY random())
			FROM ids WHERE organization_id = 'ORG:o' AND n IN (:i, :i / 2, 401 - :i)), 'session:v') $from; } ],
	# back to what is beneath: drafts go, and come again
	undo => [ 15, qq{
		SELECT pfa_draft('ORG:o', (SELECT jsonb_agg(jsonb_build_object('pfaId', m.pfa_id,
				'delta', jsonb_build_object('category', m.data -> 'category', 'monthlyRate', m.data -> 'monthlyRate')))
			FROM ids JOIN pfa_mirror m USING (organization_id, pfa_id)
			WHERE organization_id = 'ORG:o' AND n IN (:i, :i / 2, 401 - :i))) $from; } ],
	commit => [ 5, qq{ SELECT pfa_commit('ORG:o', 'session:v') $from; } ],
	commit_all => [ 2, qq{ SELECT pfa_commit('ORG:o') $from; } ],
	discard => [ 5, qq{
		SELECT pfa_discard('ORG:o', pfa_ids => ARRAY(SELECT pfa_id FROM ids
			WHERE organization_id = 'ORG:o' AND n % 10 = :i % 10 ORDER BY random())) $from; } ],
	discard_all => [ 2, qq{ SELECT pfa_discard('ORG:o', discard_all => true) $from; } ],
	page => [ 15, qq{ SELECT pfa_get('ORG:o', '{"category": "of user:u"}', 20) $from; } ],
	pages => [ 5, qq{
		SELECT pfa_get('ORG:o', '{}', 50, pfa_get('ORG:o', '{}', 50, NULL, 'monthlyRate') #>> '{pagination,nextCursor}', 'monthlyRate') $from; } ],
	record => [ 15, qq{
		SELECT pfa_record('ORG:o', (SELECT pfa_id FROM ids WHERE organization_id = 'ORG:o' AND n = :i)) $from; } ],
	view => [ 2, qq{
		BEGIN;
		SET LOCAL pfa_vanguard.user_id = 'user:u';
		SELECT count(*), sum(forecast_cost) FROM pfa_merged_live WHERE organization_id = 'ORG:o';
		COMMIT; } ],
	stats => [ 3, qq{ SELECT pfa_stats('ORG:o') $from; } ],
	sync => [ 1, q{ SELECT pfa_sync_now('ORG:o'); } ],
);
append_to_file("$dir/$_.sql", $choose . $script{$_}[1]) for keys %script;
# What the write to PEMS will do: changes are taken, refused, done with.
append_to_file("$dir/write.sql", q{
	UPDATE pfa_modification m SET sync_state = (ARRAY['syncing', 'synced', 'error', 'conflict'])[1 + floor(random() * 4)::int]
		FROM (SELECT modification_id FROM pfa_modification WHERE sync_state <> 'modified'
			ORDER BY modification_id LIMIT 20 FOR UPDATE SKIP LOCKED) x WHERE m.modification_id = x.modification_id;
	DELETE FROM pfa_modification m USING (SELECT modification_id FROM pfa_modification WHERE sync_state = 'synced'
		ORDER BY modification_id LIMIT 50 FOR UPDATE SKIP LOCKED) x WHERE m.modification_id = x.modification_id;
	\sleep 50 ms
});

sub pgbench
{
	my ($user, $clients, @scripts) = @_;
	return IPC::Run::start(
		[ 'pgbench', '-n', '-h', $node->host, '-p', $node->port, '-U', $user, '-c', $clients, '-j', $clients > 1 ? 2 : 1,
			'-T', $seconds, map({ ('-f', $_) } @scripts), 'postgres' ],
		'>', "$dir/pgbench.$user", '2>&1');
}
my $superuser = $node->safe_psql('postgres', 'SELECT current_user');
my $users = pgbench('api', 100, map { "$dir/$_.sql\@$script{$_}[0]" } sort keys %script);
my $writer = pgbench($superuser, 1, "$dir/write.sql");
# PEMS changes meanwhile, so that syncs have something to write.
my $looks = 0;
my $differences = 0;
my $end = time + $seconds;
while (time < $end)
{
	sim($sim, "change?org=ORG$_&count=40") for 1, 2;
	$differences += $node->safe_psql('postgres', 'SELECT count(*) FROM pfa_kpi_verify()');
	$looks++;
	usleep(200_000);
}
$users->finish;
$writer->finish;

# 1
for ([ 'api', $users ], [ $superuser, $writer ])
{
	my ($user, $bench) = @$_;
	my $out = slurp_file("$dir/pgbench.$user");
	is($bench->result(0), 0, "$user: no call failed") or diag(substr($out, 0, 3000));
	my ($done) = $out =~ /transactions actually processed: (\d+)/;
	cmp_ok($done // 0, '>', 0, "$user got on");
	note("$user: " . ($done // 0) . ' transactions');
}
is($node->safe_psql('postgres', "SELECT deadlocks FROM pg_stat_database WHERE datname = 'postgres'"), '0', 'no deadlock');
# An autovacuum worker that starts while the one before it ends may find no
# place; a client that found none would have failed.  And it makes way for
# whoever needs the table that it is about to truncate.
my @wrong = grep { !/sorry, too many clients already$|canceling autovacuum task$/ }
  slurp_file($node->logfile) =~ /^.*(?:deadlock detected|terminated by signal|PANIC:|FATAL:|ERROR:).*$/mg;
is(join("\n", @wrong), '', 'no error in the log');
is($differences, 0, "the KPI were right throughout ($looks looks)");

# 2
is($node->safe_psql('postgres', q{SELECT count(*) > 0 FROM pfa_modification}), 't', 'something is left');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pfa_modification WHERE delta = '{}'
		OR ARRAY(SELECT jsonb_object_keys(delta) ORDER BY 1) <> ARRAY(SELECT jsonb_object_keys(base) ORDER BY 1)
		OR delta ->> 'category' LIKE 'of user%' AND delta ->> 'category' <> 'of ' || user_id}),
	'0', 'modifications are their users\', with the values they were begun on');
is($node->safe_psql('postgres', q{SELECT count(*) FROM (SELECT FROM pfa_modification WHERE sync_state = 'modified'
		GROUP BY organization_id, user_id, pfa_id HAVING count(*) > 1) x}),
	'0', 'one draft a user and record');
is($node->safe_psql('postgres', join('', map { qq{
		BEGIN; SET LOCAL pfa_vanguard.user_id = 'user$_';
		SELECT 'user$_ ' || o FROM unnest('{ORG1,ORG2}'::text[]) o
			WHERE (pfa_get(o, '{"syncState": "modified"}', 1) #>> '{pagination,totalRecords}')::bigint
				<> (SELECT count(*) FROM pfa_modification WHERE organization_id = o AND user_id = 'user$_' AND sync_state = 'modified');
		COMMIT; } } 1 .. 20)),
	'', 'pages count them');
is(run_sync($node, 'postgres', $_, 'full'), 'completed', "a last sync of $_") for qw(ORG1 ORG2);
compare($node, 'postgres', $sim, [ 'ORG1', 'ORG2' ], 'after it');
is($node->safe_psql('postgres', 'SELECT * FROM pfa_kpi_verify()'), '', 'the KPI are those of the mirror');
$node->stop;
done_testing();
