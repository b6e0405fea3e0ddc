# Through a real PgBouncer in transaction mode, configured like
# deploy/pgbouncer.ini:
#  1. Identity by SET LOCAL and by set_config in one statement.
#  2. Many clients with many identities over few server connections, some of
#     them careless (SET for the session): nobody ever gets another's answer.
#  3. Drafts and commits of many clients: none is lost, none is another's.
use strict;
use warnings;

use lib 'test/perl';
use PfaTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

plan skip_all => 'pgbouncer is not installed' if !-x '/usr/sbin/pgbouncer';

my $seconds = $ENV{PFA_SECONDS} // 10;
my $node = new_server('bounced');
my $dir = PostgreSQL::Test::Utils::tempdir_short();
my $port = PostgreSQL::Test::Cluster::get_free_port();

$node->safe_psql('postgres', q{
	SET client_min_messages = error;
	CREATE ROLE api LOGIN;
	SELECT pfa_grant_access('api', 'editor');
	GRANT SET ON PARAMETER pfa_vanguard.user_id TO api;
	INSERT INTO pfa_organization (organization_id, pems_organization, server_name, owner, sync_interval,
			paused, system_identifier, database_oid)
		SELECT 'ORG' || o, 'ORG', 'none', 'none', '1 day', true, 1, 1 FROM generate_series(1, 5) o;
	INSERT INTO pfa_mirror (organization_id, pfa_id, data)
		SELECT 'ORG' || o, 'R' || i, jsonb_build_object('pfaId', 'R' || i, 'category', 'C', 'model', 'of ORG' || o)
		FROM generate_series(1, 5) o, generate_series(1, 200) i;
	-- ten users, two an organization
	INSERT INTO pfa_user_organization SELECT 'user' || u, 'ORG' || 1 + u % 5, 'editor' FROM generate_series(0, 9) u;
	-- each has drafted the same record
	DO $$ BEGIN FOR u IN 0..9 LOOP
		PERFORM set_config('pfa_vanguard.user_id', 'user' || u, true);
		PERFORM pfa_draft('ORG' || 1 + u % 5, jsonb_build_array(jsonb_build_object('pfaId', 'R1', 'delta', jsonb_build_object('category', 'draft of user' || u))));
	END LOOP; END $$;
});

# The example, with the addresses of this test and without passwords.
my $ini = slurp_file(($ENV{PFA_ROOT} || '.') . '/deploy/pgbouncer.ini');
my $host = $node->host;
my $server_port = $node->port;
$ini =~ s/^pfa = .*$/pfa = host=$host port=$server_port dbname=postgres/m or die;
$ini =~ s/^listen_addr = .*$/listen_addr =/m or die;
$ini =~ s/^listen_port = .*$/listen_port = $port/m or die;
$ini =~ s/^auth_type = .*$/auth_type = trust/m or die;
$ini =~ s/^auth_file = .*$/auth_file = $dir\/users/m or die;
$ini =~ s/^default_pool_size = .*$/default_pool_size = 4/m or die;
append_to_file("$dir/pgbouncer.ini", $ini . "unix_socket_dir = $dir\n");
append_to_file("$dir/users", "\"api\" \"\"\n");
my ($out, $err) = ('', '');
my $bouncer = IPC::Run::start([ '/usr/sbin/pgbouncer', '-q', "$dir/pgbouncer.ini" ], '>', \$out, '2>', \$err);
my $connstr = "host=$dir port=$port dbname=pfa user=api";

sub bounced
{
	my ($sql) = @_;
	my ($o, $e);
	IPC::Run::run([ 'psql', '-XAtq', '-d', $connstr ], '<', \$sql, '>', \$o, '2>', \$e);
	chomp $o;
	return ($o, $e);
}
for (1 .. 600)
{
	my ($o) = bounced('SELECT 1');
	last if ($o // '') eq '1';
	Time::HiRes::usleep(100_000);
}

# 1
my $mine = q{SELECT pfa_record('ORG1', 'R1') #>> '{data,category}'};
is((bounced("BEGIN; SET LOCAL pfa_vanguard.user_id = 'user5'; $mine; COMMIT;"))[0], 'draft of user5', 'SET LOCAL');
is((bounced("$mine FROM set_config('pfa_vanguard.user_id', 'user0', true)"))[0], 'draft of user0', 'set_config in one statement');
like((bounced($mine))[1], qr/no access to organization "ORG1"/, 'nothing stays for the next');

# 2 and 3: pgbench checks by division by zero, which ends the client
append_to_file("$dir/read.sql", q{
\set u random(0, 9)
\set o 1 + :u % 5
BEGIN;
SET LOCAL pfa_vanguard.user_id = 'user:u';
SELECT 1 / (pfa_record('ORG:o', 'R1') #>> '{data,category}' = 'draft of user:u')::int AS r;
SELECT 1 / (pfa_get('ORG:o', '{}', 5) #>> '{data,0,modifiedBy}' = 'user:u')::int AS g;
SELECT 1 / (count(*) FILTER (WHERE user_id <> 'user:u') = 0 AND count(*) > 0)::int FROM pfa_modification;
SELECT 1 / (count(DISTINCT organization_id) = 1)::int FROM pfa_mirror;
COMMIT;
});
# Leaves its identity behind in the server connection, and then asks.
append_to_file("$dir/careless.sql", q{
\set u random(0, 9)
SET client_min_messages = error;
SET pfa_vanguard.user_id = 'user:u';
SELECT 1 / (pfa_current_user_id() = 'api')::int;
SELECT 1 / (count(*) = 0)::int FROM pfa_mirror;
});
append_to_file("$dir/write.sql", q{
\set u random(0, 9)
\set o 1 + :u % 5
\set i random(2, 200)
BEGIN;
SET LOCAL pfa_vanguard.user_id = 'user:u';
SELECT pfa_draft('ORG:o', '[{"pfaId": "R:i", "delta": {"manufacturer": "user:u"}}]', 'session:u');
COMMIT;
});
# pgbench replaces :u within quotes as well, in simple query mode
my @bench = ('pgbench', '-n', '-h', $dir, '-p', $port, '-U', 'api', '-c', 50, '-j', 2, '-T', $seconds);
my $bench_out = '';
my $ok = IPC::Run::run([ @bench, '-f', "$dir/read.sql\@6", '-f', "$dir/write.sql\@3", '-f', "$dir/careless.sql\@1", 'pfa' ],
	'>', \$bench_out, '2>&1');
ok($ok, '50 clients, 10 identities, 4 connections: no answer for another') or diag($bench_out);
my ($done) = $bench_out =~ /transactions actually processed: (\d+)/;
cmp_ok($done // 0, '>', 100, 'they got on');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE usename = 'api'}) <= 4, 1, 'over four connections');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pfa_modification WHERE pfa_id <> 'R1' AND delta ->> 'manufacturer' <> user_id}), '0', 'no draft is under another name');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pfa_modification m WHERE NOT EXISTS (SELECT FROM pfa_user_organization u
	WHERE u.user_id = m.user_id AND u.organization_id = m.organization_id)}), '0', 'nor in another organization');
$bouncer->signal('INT');
$bouncer->finish;
$node->stop;
done_testing();
