# What users did survives pg_dump and pg_restore:
#  1. Drafts, committed changes, conflicts and memberships are the same after it,
#     in plain and custom format, also where search_path is empty.
#  2. Numbers go on: nothing that is new gets the number of something old.
#  3. The restored drafts take part: pages and commits see them.
use strict;
use warnings;

use lib 'test/perl';
use PfaTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('dumped');
my $dir = PostgreSQL::Test::Utils::tempdir();

$node->safe_psql('postgres', q{
	INSERT INTO pfa_organization (organization_id, pems_organization, server_name, owner, sync_interval,
			paused, system_identifier, database_oid)
		VALUES ('RIO', 'RIO', 'none', 'none', '1 day', true, 1, 1);
	INSERT INTO pfa_mirror (organization_id, pfa_id, data)
		SELECT 'RIO', 'R' || i, jsonb_build_object('pfaId', 'R' || i, 'category', 'C', 'monthlyRate', i) FROM generate_series(1, 20) i;
	INSERT INTO pfa_user_organization VALUES ('ann', 'RIO', 'editor'), ('bob', 'RIO', 'admin');
	SET pfa_vanguard.user_id = 'ann';
	SELECT pfa_draft('RIO', '[{"pfaId": "R1", "delta": {"category": "D"}}, {"pfaId": "R2", "delta": {"monthlyRate": 1.50}, "changeReason": "größer"}]', 's');
	SELECT pfa_commit('RIO', 's');
	SELECT pfa_draft('RIO', '[{"pfaId": "R1", "delta": {"category": "E"}}]');
	SELECT pfa_draft('RIO', '[{"pfaId": "R3", "delta": {"category": "F"}}]');
	SELECT pfa_discard('RIO', pfa_ids => '{R3}');
	INSERT INTO pfa_conflict (organization_id, pfa_id, modification_id, fields, base, local, pems)
		SELECT 'RIO', 'R2', modification_id, '{monthlyRate}', base, delta, '{"monthlyRate": 7}' FROM pfa_modification WHERE pfa_id = 'R2';
});

my $content = q{
	SELECT 'modification', m::text FROM pfa_modification m UNION ALL SELECT 'conflict', c::text FROM pfa_conflict c
	UNION ALL SELECT 'member', u::text FROM pfa_user_organization u UNION ALL SELECT 'mirror', m::text FROM pfa_mirror m
	UNION ALL SELECT 'sequence', last_value::text || is_called FROM pfa_modification_id_seq
	UNION ALL SELECT 'sequence', last_value::text || is_called FROM pfa_conflict_id_seq ORDER BY 1, 2};
my $before = $node->safe_psql('postgres', $content);
my $page = q{SET pfa_vanguard.user_id = 'ann'; SELECT pfa_get('RIO', '{"category": ["C", "D", "E"]}')};
my $page_before = $node->safe_psql('postgres', $page);

for my $format (qw(plain custom))
{
	my $db = "restored_$format";

	$node->command_ok([ 'pg_dump', '-F', $format, '-f', "$dir/$format", '-d', $node->connstr('postgres') ], "dump, $format");
	$node->safe_psql('postgres', "CREATE DATABASE $db TEMPLATE template0");
	$node->command_ok($format eq 'plain' ?
		[ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-f', "$dir/$format", '-d', $node->connstr($db) ] :
		[ 'pg_restore', '-e', '-j', '2', '-d', $node->connstr($db), "$dir/$format" ], "restore, $format");
	is($node->safe_psql($db, $content), $before, "$format: the same rows");
	is($node->safe_psql($db, $page), $page_before, "$format: the same page");
	is($node->safe_psql($db, q{
		SET pfa_vanguard.user_id = 'ann';
		SELECT count(*) FROM pfa_modification WHERE modification_id >= (pfa_draft('RIO', '[{"pfaId": "R9", "delta": {"category": "N"}}]') #>> '{saved,0,modificationId}')::bigint}),
		'0', "$format: numbers go on");
	is($node->safe_psql($db, q{SET pfa_vanguard.user_id = 'ann'; SELECT jsonb_array_length(pfa_commit('RIO') -> 'committed')}),
		'2', "$format: restored drafts can be committed");
}
$node->stop;
done_testing();
