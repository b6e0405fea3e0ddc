# DROP EXTENSION while a sync is in mid-download
#  - takes less than a second, and the workers leave
#  - rolled back, the sync goes on as if nothing had been
#  - together with CREATE EXTENSION in one transaction: the run of before does
#    not write into the new tables, also where a run of its number is there
#    again; and the new one works
# A session that waits for a run in pfa_sync_wait() keeps nobody waiting.
use strict;
use warnings;
use PfaTest;
use Test::More;

my $node = new_server('main');
my $db = 'postgres';
my $sim = simulator('--orgs', 'RIO:3000,LIMA:2000', '--seed', '19');
my $limit = 1;

my $setup = q{
	SELECT pfa_add_organization('RIO', 'pems', NULL, '1 day')};
my $hangs = "SELECT rows_seen >= 500 FROM pfa_sync_status WHERE state = 'running'";
my $workers = q{SELECT count(*) FROM pg_stat_activity
	WHERE application_name LIKE 'pfa_vanguard sync%'};

sub hang
{
	sim($sim, 'clear');
	sim($sim, 'fault?kind=hang&after=1000');
}

add_source($node, $db, $sim, 'pems', q{page_size '500', timeout '300'});
hang();
$node->safe_psql($db, $setup);
ok(wait_for($node, $db, $hangs, 20), 'a run hangs in mid-download');

# ---- rolled back ----

my $session = session($node, $db);
my ($pid) = worker_pids($node, 'pfa_vanguard sync%');
my $out;
my $seconds = timed(sub { $out = $session->run('BEGIN; DROP EXTENSION pfa_vanguard CASCADE; SELECT 1') });
like($out, qr/^1$/m, 'DROP EXTENSION in a transaction');
cmp_ok($seconds, '<', $limit, 'DROP EXTENSION takes less than a second');
sim($sim, 'clear');
$session->run('ROLLBACK');
ok(wait_for($node, $db, 'SELECT status FROM pfa_sync_run', 20, 'completed'),
	'rolled back: the sync goes on');
is(value($node, $db, 'SELECT attempt FROM pfa_sync_run'), '1', 'in the same attempt');
compare($node, $db, $sim, 'RIO', 'after the rollback');

# ---- for good ----

hang();
my $run = value($node, $db, q{SELECT pfa_sync_now('RIO', 'full')});
ok(wait_for($node, $db, $hangs, 20), 'hangs again');
my $waiter = session($node, $db);
$waiter->start("SELECT pfa_sync_wait($run)");
ok(wait_for($node, $db, "SELECT count(*) = 1 FROM pg_stat_activity
	WHERE query LIKE '%pfa_sync_wait%' AND wait_event_type = 'Extension'", 10), 'a session waits for it');
$seconds = timed(sub { $out = $session->run('DROP EXTENSION pfa_vanguard CASCADE') });
unlike($out, qr/ERROR/, 'DROP EXTENSION');
cmp_ok($seconds, '<', $limit, 'takes less than a second');
like($waiter->result, qr/has been dropped|is not installed|does not exist/, 'who waited is told');
ok(wait_for($node, $db, $workers, 10, '0'), 'the sync workers leave, though PEMS hangs');
ok(wait_for($node, $db, q{SELECT count(*) FROM pg_stat_activity
	WHERE application_name LIKE 'pfa_vanguard scheduler%'}, 20, '0'), 'the scheduler leaves');
is(value($node, $db, q{SELECT count(*) FROM pg_class WHERE relname LIKE 'pfa\_%'}), '0',
	'nothing is left');

# ---- and created again in one transaction ----

hang();
$node->safe_psql($db, 'CREATE EXTENSION pfa_vanguard');
add_source($node, $db, $sim, 'pems', q{page_size '500', timeout '300'});
$node->safe_psql($db, $setup);
ok(wait_for($node, $db, $hangs, 20), 'another run hangs');
is(value($node, $db, 'SELECT run_id FROM pfa_sync_run'), '1', 'it is number 1');
$seconds = timed(sub {
	$out = $session->run(qq{
		BEGIN;
		DROP EXTENSION pfa_vanguard CASCADE;
		CREATE EXTENSION pfa_vanguard;
		CREATE SERVER pems FOREIGN DATA WRAPPER pfa_pems
			OPTIONS (base_url '$sim->{url}', tenant 'ACME', page_size '500', timeout '300');
		SET LOCAL client_min_messages = warning;
		CREATE USER MAPPING FOR CURRENT_USER SERVER pems OPTIONS (username 'api', password 'secret');
		SELECT pfa_add_organization('LIMA', 'pems', NULL, '1 day');
		SELECT pfa_sync_now('LIMA');
		COMMIT}) });
unlike($out, qr/ERROR/, 'DROP and CREATE EXTENSION in one transaction');
cmp_ok($seconds, '<', 2, 'take less than two seconds');
is(value($node, $db, q{SELECT run_id FROM pfa_sync_run WHERE organization_id = 'LIMA'}), '1',
	'the new run has the number of the old one');
ok(wait_for($node, $db, "SELECT count(*) FROM pg_stat_activity
	WHERE application_name = 'pfa_vanguard sync RIO'", 10, '0'), 'the worker of the old run leaves');
sim($sim, 'clear');
ok(wait_for($node, $db, 'SELECT status FROM pfa_sync_run', 20, 'completed'), 'the new one completes');
ok(wait_for($node, $db, $workers, 10, '0'), 'no worker is left');
compare($node, $db, $sim, 'LIMA', 'new extension');
is(value($node, $db, q{SELECT count(*) FROM pfa_mirror WHERE organization_id <> 'LIMA'}), '0',
	'the old run wrote nothing into the new tables');
is(value($node, $db, 'SELECT count(*) FROM pfa_sync_page'), '0', 'nor left it pages');

# ---- with something else ----

$node->safe_psql($db, 'DROP EXTENSION pfa_vanguard CASCADE');
$node->safe_psql($db, 'CREATE SCHEMA home; CREATE EXTENSION pfa_vanguard SCHEMA home');
ok(wait_for($node, $db, q{SELECT count(*) FROM pg_stat_activity
	WHERE application_name LIKE 'pfa_vanguard scheduler%'}, 20, '1'), 'in a schema of its own');
$node->safe_psql($db, 'DROP SCHEMA home CASCADE');
ok(wait_for($node, $db, q{SELECT count(*) FROM pg_stat_activity
	WHERE application_name LIKE 'pfa_vanguard scheduler%'}, 20, '0'), 'it goes with its schema');

is(log_lines($node, '(PANIC|terminated by signal|TRAP)'), 0, 'nothing crashed');
$_->close for $session, $waiter;
$node->stop;
done_testing();
