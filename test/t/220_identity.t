# Who is calling, where the library is not preloaded and policies are the first
# to load it:
#  1. A role that may not set pfa_vanguard.user_id gains nothing by setting the
#     placeholder before the library is there: not in a policy, not in a call.
#  2. A role that may, speaks for others by SET LOCAL, also where that is what
#     comes first in the session.
#  3. A value left behind in the session does not count, also if it was set
#     before the library was loaded.
#  4. Values from ALTER ROLE and from connection options count, if the one who
#     gave them may set them.
#  5. Without preloading drafts and pages work.
use strict;
use warnings;

use lib 'test/perl';
use PfaTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('identity', preload => 0);

$node->safe_psql('postgres', q{
	SET client_min_messages = error;
	CREATE ROLE eve LOGIN;
	CREATE ROLE api LOGIN;
	CREATE ROLE fixed LOGIN;
	SELECT pfa_grant_access(r, 'editor') FROM unnest('{eve,api,fixed}'::name[]) r;
	GRANT SET ON PARAMETER pfa_vanguard.user_id TO api;
	ALTER ROLE fixed SET pfa_vanguard.user_id = 'ann';
	INSERT INTO pfa_organization (organization_id, pems_organization, server_name, owner, sync_interval,
			paused, system_identifier, database_oid)
		VALUES ('RIO', 'RIO', 'none', 'none', '1 day', true, 1, 1);
	INSERT INTO pfa_mirror (organization_id, pfa_id, data) VALUES ('RIO', 'R1', '{"pfaId": "R1", "category": "C"}');
	INSERT INTO pfa_user_organization VALUES ('ann', 'RIO', 'editor');
});

# Output of a new session; warnings and errors in $err.
my $err;
sub as
{
	my ($user, $sql, $options) = @_;
	my $out;

	local $ENV{PGOPTIONS} = $options // '';
	$node->psql('postgres', $sql, stdout => \$out, stderr => \$err,
		extra_params => [ '-U', $user ], on_error_stop => 0);
	return $out;
}

my $rows = 'SELECT count(*) FROM pfa_mirror;';
my $call = q{SELECT pfa_record('RIO', 'R1') #>> '{data,category}';};

# 1
is(as('eve', "SET pfa_vanguard.user_id = 'ann'; $rows"), '0', 'a spoofed placeholder shows no row');
like($err, qr/permission denied to set parameter "pfa_vanguard.user_id"/, 'it is dropped with a warning');
is(as('eve', "SET pfa_vanguard.user_id = 'ann'; $call"), '', 'nor does it help a call');
like($err, qr/no access to organization "RIO".*user "eve"/s, 'the caller is the role');
is(as('eve', "BEGIN; SET LOCAL pfa_vanguard.user_id = 'ann'; $rows COMMIT;"), '0', 'nor SET LOCAL');
is(as('eve', "SELECT set_config('pfa_vanguard.user_id', 'ann', false); $rows"), "ann\n0", 'nor set_config');
is(as('eve', q{CREATE FUNCTION pg_temp.f() RETURNS bigint LANGUAGE sql SET pfa_vanguard.user_id = 'ann' AS 'SELECT count(*) FROM pfa_mirror'; SELECT pg_temp.f();}),
	'', 'nor a setting of a function');
like($err, qr/permission denied to set parameter/, 'which is refused');
is(as('eve', $rows, "-c pfa_vanguard.user_id=ann"), '0', 'nor connection options');
as('eve', "ALTER ROLE eve SET pfa_vanguard.user_id = 'ann'");
is(as('eve', $rows), '0', 'nor ALTER ROLE on oneself');
is(as('eve', "SET pfa_vanguard.user_id = 'ann'; SET pfa_vanguard.enabled = off; SELECT pfa_current_user_id(); SHOW pfa_vanguard.user_id;"),
	"eve\n", 'the value is gone');

# 2
is(as('api', "BEGIN; SET LOCAL pfa_vanguard.user_id = 'ann'; $rows $call COMMIT; $rows"), "1\nC\n0", 'SET LOCAL before the library is loaded');
is($err, '', 'without a warning');
is(as('api', "SELECT pfa_record('RIO', 'R1') #>> '{data,category}' FROM set_config('pfa_vanguard.user_id', 'ann', true);"), 'C', 'in one statement');

# 3
is(as('api', "SET pfa_vanguard.user_id = 'ann'; $rows"), '0', 'a value from before the library was loaded does not count');
like($err, qr/is ignored, as an earlier transaction of this session set it/, 'and the caller is told');
is(as('api', "SELECT pfa_current_user_id(); SET pfa_vanguard.user_id = 'ann'; $rows"), "api\n0", 'nor one from after');
is(as('api', "BEGIN; SET pfa_vanguard.user_id = 'ann'; $rows COMMIT; $rows"), "1\n0", 'it counts in the transaction that sets it');
is(as('api', "BEGIN; SET pfa_vanguard.user_id = 'ann'; ROLLBACK; $rows"), '0', 'rolled back it is nothing');
is($err, '', 'not even a warning');

# 4
is(as('fixed', "$rows $call"), "1\nC", 'ALTER ROLE by a superuser');
is(as('api', "$rows $call", '-c pfa_vanguard.user_id=ann'), "1\nC", 'connection options of a role that may');

# 5
is(as('fixed', q{SELECT pfa_draft('RIO', '[{"pfaId": "R1", "delta": {"category": "D"}}]') #> '{saved,0,version}';
	SELECT pfa_get('RIO', '{"category": "D"}') #> '{pagination,totalRecords}'; SELECT count(*) FROM pfa_merged_live WHERE category = 'D';
	SELECT jsonb_array_length(pfa_commit('RIO') -> 'committed')}), "1\n1\n1\n1", 'drafts, pages, the view, commit');

$node->stop;
done_testing();
