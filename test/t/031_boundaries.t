# What is wrong with one organization stays with it (W3), and fairness:
#  - server dropped, user mapping dropped, role dropped, USAGE revoked, mapping
#    rows that cannot be used, a PEMS that is down or hangs: the organization
#    fails and says why, the others keep their schedule
#  - each of them works again once its trouble is over
#  - a slow organization, a large one with two workers too, does not starve the
#    others
#  - runs are served in the order of their requests, across databases as well
use strict;
use warnings;
use PfaTest;
use Test::More;
use Time::HiRes qw(time usleep);

my $node = new_server('main');
my $db = 'postgres';
my $sim = simulator('--orgs', 'GOOD:500,ALSO:500,BAD:500,SLOW:8000,S*8:200', '--seed', '41');
my $session = session($node, $db);

add_source($node, $db, $sim, 'pems', q{page_size '100', max_retries '0'});
add_source($node, $db, $sim, 'large', q{page_size '500', requests_in_flight '1'});

sub sql
{
	return $session->run($_[0]);
}

sub until_is
{
	my ($query, $expected, $seconds) = @_;
	my $end = time + $seconds;
	my $answer;
	do
	{
		return 1 if ($answer = sql($query)) eq $expected;
		usleep(20_000);
	} while (time < $end);
	diag("got $answer");
	return 0;
}

# BAD fails with this error, and GOOD and ALSO, requested after it, do not care.
sub fails
{
	my ($pattern, $name) = @_;
	my ($bad) = split /\n/, sql(q{SELECT pfa_sync_now('BAD')});
	my $good = sql(q{SELECT pfa_sync_now('GOOD', 'full')});
	my $also = sql(q{SELECT pfa_sync_now('ALSO', 'full')});

	is(sql("SELECT pfa_sync_wait($good, '20 s')"), 'completed', "$name: GOOD is synced");
	is(sql("SELECT pfa_sync_wait($also, '20 s')"), 'completed', "$name: ALSO is synced");
	is(sql("SELECT pfa_sync_wait($bad, '20 s')"), 'failed', "$name: BAD fails");
	like(sql("SELECT error FROM pfa_sync_run WHERE run_id = $bad"), $pattern, "$name: and says why");
	is(sql(q{SELECT state, last_error IS NOT NULL, next_sync_at > now() FROM pfa_sync_status
		WHERE organization_id = 'BAD'}), 'backoff|t|t', "$name: it waits and is not lost");
}

sub recovers
{
	my ($name) = @_;
	is(run_sync($node, $db, 'BAD'), 'completed', "$name: it works again");
}

sql(q{SET client_min_messages = warning});
sql(q{CREATE ROLE keeper LOGIN SUPERUSER});
my $server = "CREATE SERVER bad FOREIGN DATA WRAPPER pfa_pems OPTIONS (base_url '$sim->{url}', tenant 'ACME', max_retries '0')";
my $mapping = "CREATE USER MAPPING FOR keeper SERVER bad OPTIONS (username 'api', password 'secret')";
sql($server);
sql($mapping);
sql(q{SET ROLE keeper; SELECT pfa_add_organization('BAD', 'bad', NULL, '1 day'); RESET ROLE});
sql(q{SELECT pfa_add_organization(o, 'pems', NULL, '1 day') FROM unnest('{GOOD,ALSO}'::text[]) o});
ok(synced($node, $db), 'all is well');

sql('DROP SERVER bad CASCADE');
fails(qr/server "bad" of organization "BAD" does not exist/, 'server dropped');
sql($server);
fails(qr/role "keeper" has no user mapping for server "bad"/, 'mapping dropped');
sql($mapping);
recovers('server and mapping');

sql('DROP USER MAPPING FOR keeper SERVER bad; DROP ROLE keeper');
fails(qr/role that added organization "BAD" does not exist/, 'role dropped');
sql('CREATE ROLE keeper LOGIN');
sql($mapping);
fails(qr/permission denied for foreign server bad/, 'no longer allowed');
sql('GRANT USAGE ON FOREIGN SERVER bad TO keeper');
recovers('role and right');

sql(q{INSERT INTO pfa_field_mapping (organization_id, pems_alias, key, kind) VALUES ('BAD', 'pfs_f_category', 'monthlyRate', 'text')});
like(run_sync($node, $db, 'BAD', 'full'), qr/completed|failed/, 'a mapping row that fits badly ends in one way or another');
is(run_sync($node, $db, 'GOOD', 'full'), 'completed', 'and GOOD is synced');
sql(q{DELETE FROM pfa_field_mapping WHERE organization_id = 'BAD'});
recovers('mapping row');

sim($sim, 'fault?kind=status&code=500&org=BAD');
fails(qr/HTTP status 500|500/, 'PEMS fails');
sim($sim, 'clear');
sql(q{ALTER SERVER bad OPTIONS (SET base_url 'http://127.0.0.1:1')});
fails(qr/credentials for server "bad" were given for/, 'server aimed elsewhere');
sql("ALTER SERVER bad OPTIONS (SET base_url '$sim->{url}')");
recovers('PEMS');
compare($node, $db, $sim, $_, $_) for qw(GOOD ALSO BAD);

# ---- a slow one ----

# 18 pages of a second each, in two workers: all that may run.
sim($sim, 'fault?kind=latency&ms=1000&org=SLOW');
sql(q{SELECT pfa_add_organization('SLOW', 'large', NULL, '1 day')});
ok(until_is(q{SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pfa_vanguard sync SLOW'}, '2', 15),
	'a large and slow organization has two workers');
my $seconds = timed(sub {
	sql(q{SELECT pfa_add_organization('S000' || i, 'pems', NULL, '1 day') FROM generate_series(1, 8) i});
	ok(until_is(q{SELECT count(*) FROM pfa_sync_run WHERE organization_id LIKE 'S0%' AND status = 'completed'}, '8', 30),
		'eight others are synced meanwhile') });
is(sql(q{SELECT status FROM pfa_sync_run WHERE organization_id = 'SLOW'}), 'running', 'while it runs');
cmp_ok($seconds, '<', 10, 'soon');
sim($sim, 'clear');
ok(until_is(q{SELECT status FROM pfa_sync_run WHERE organization_id = 'SLOW'}, 'completed', 60), 'it completes too');
compare($node, $db, $sim, $_, $_) for qw(SLOW S0001 S0008);

# ---- in order ----

setting($node, 'pfa_vanguard.max_concurrent_syncs', 1);
sim($sim, 'fault?kind=hang&org=GOOD');
sql(q{SELECT pfa_sync_now('GOOD')});
ok(until_is(q{SELECT state FROM pfa_sync_status WHERE organization_id = 'GOOD'}, 'running', 10), 'the only worker hangs');
sql("SELECT pfa_sync_now('S000$_')") for (5, 2, 7, 1);
sim($sim, 'clear');
ok(until_is(q{SELECT count(*) FROM pfa_sync_run WHERE status IN ('queued', 'running')}, '0', 30), 'all end');
is(sql(q{SELECT string_agg(right(organization_id, 1), ' ' ORDER BY started_at)
	FROM (SELECT * FROM pfa_sync_run WHERE organization_id LIKE 'S0%' ORDER BY run_id DESC LIMIT 4) r}),
	'5 2 7 1', 'in the order of their requests');

# Two databases: one with much to do does not keep the other waiting.
$node->safe_psql('postgres', 'CREATE DATABASE second');
$node->safe_psql('second', 'CREATE EXTENSION pfa_vanguard');
add_source($node, 'second', $sim);
sim($sim, 'fault?kind=latency&ms=400');
sql(q{SELECT pfa_sync_now(o) FROM (SELECT 'S000' || i AS o FROM generate_series(1, 8) i) s});
ok(until_is(q{SELECT count(*) FROM pfa_sync_status WHERE state = 'running'}, '1', 10), 'one database is busy');
$node->safe_psql('second', q{SELECT pfa_add_organization('ALSO', 'pems', NULL, '1 day')});
ok(wait_for($node, 'second', 'SELECT status FROM pfa_sync_run', 20, 'completed'),
	'the other one has its turn');
cmp_ok(sql(q{SELECT count(*) FROM pfa_sync_status WHERE state = 'queued'}), '>', 1, 'before the first one is done');
sim($sim, 'clear');
ok(until_is(q{SELECT count(*) FROM pfa_sync_run WHERE status IN ('queued', 'running')}, '0', 30), 'which then goes on');

is(log_lines($node, '(PANIC|terminated by signal|TRAP)'), 0, 'nothing crashed');
$session->close;
$node->stop;
done_testing();
