# A server without shared_preload_libraries:
#  - the extension installs, in a fresh session and in one transaction
#  - what needs no worker works: servers, organizations, status, pfa_test_source
#  - CALL pfa_sync() syncs in the foreground; a run whose session died is taken
#    up by the next one; it obeys cancel, timeout and termination
#  - what needs workers says so, with a HINT
#  - commands on databases and extensions work as on any server
#  - no process of ours runs
use strict;
use warnings;
use PfaTest;
use Test::More;

my $node = new_server('main', preload => 0, extension => 0);
my $db = 'postgres';
my $sim = simulator('--orgs', 'RIO:3000,LIMA:1000', '--seed', '23');

$node->safe_psql($db, 'BEGIN; CREATE EXTENSION pfa_vanguard; COMMIT');
add_source($node, $db, $sim, 'pems', q{page_size '500', timeout '300'});
is(value($node, $db, q{SELECT ok FROM pfa_test_source('pems')}), 't', 'pfa_test_source works');
$node->safe_psql($db,
	"SELECT pfa_add_organization(o, 'pems') FROM unnest('{RIO,LIMA}'::text[]) o");

my ($rc, $out, $err) = $node->psql($db, q{SELECT pfa_sync_now('RIO')});
like($err, qr/ERROR:  no workers are running that could sync/, 'pfa_sync_now says that there are no workers');
like($err, qr/DETAIL:  pfa_vanguard is not in shared_preload_libraries/, 'why');
like($err, qr/HINT:  .*CALL pfa_sync.*shared_preload_libraries/, 'and what to do');
like(value($node, $db, q{SELECT reason FROM pfa_sync_status WHERE organization_id = 'RIO'}),
	qr/not in shared_preload_libraries, sync with CALL pfa_sync/, 'pfa_sync_status too');

# ---- in the foreground ----

($rc, $out, $err) = $node->psql($db, 'CALL pfa_sync()');
is($rc, 0, 'CALL pfa_sync()');
like($err, qr/NOTICE: .*"RIO".*3000 inserted/, 'tells of its progress');
compare($node, $db, $sim, $_, $_) for qw(RIO LIMA);

($rc, $out, $err) = $node->psql($db, q{BEGIN; CALL pfa_sync('RIO')});
like($err, qr/cannot run inside a transaction block.*HINT/s, 'not in a transaction block');

# Interrupted in mid-download.
my $session = session($node, $db);
my $pid = $session->backend;
my $hangs = "SELECT count(*) = 1 FROM pg_stat_activity
	WHERE pid = $pid AND wait_event_type = 'Extension' AND xact_start IS NULL
	AND backend_xmin IS NULL";
sim($sim, 'change?org=RIO&count=1000');
sim($sim, 'fault?kind=hang&after=1000');

my $seconds = timed(sub { $out = $session->run(
	q{SET statement_timeout = '700ms'; CALL pfa_sync('RIO', 'full'); RESET statement_timeout}) });
like($out, qr/statement timeout/, 'statement_timeout ends it');
cmp_ok($seconds, '<', 2.5, 'at once');
$session->run('RESET statement_timeout');
is(value($node, $db, q{SELECT status FROM pfa_sync_run ORDER BY run_id DESC LIMIT 1}), 'cancelled',
	'and the run is cancelled');

$session->start(q{CALL pfa_sync('RIO', 'full')});
ok(wait_for($node, $db, $hangs, 20), 'waits for PEMS without transaction or snapshot');
$seconds = timed(sub {
	$node->safe_psql($db, "SELECT pg_cancel_backend($pid)");
	$out = $session->result });
like($out, qr/canceling statement/, 'pg_cancel_backend ends it');
cmp_ok($seconds, '<', 1.5, 'at once');
is($session->run('SELECT 1'), '1', 'the session lives on');

$session->start(q{CALL pfa_sync('RIO', 'full')});
ok(wait_for($node, $db, $hangs, 20), 'hangs again');
my $run = value($node, $db, q{SELECT run_id FROM pfa_sync_run WHERE status = 'running'});
$seconds = timed(sub {
	is(value($node, $db, "SELECT pfa_sync_cancel($run)"), 't', 'pfa_sync_cancel reaches it');
	$out = $session->result });
like($out, qr/cancel/, 'and ends it');
cmp_ok($seconds, '<', 1.5, 'at once');

$session->start(q{CALL pfa_sync('RIO', 'full')});
ok(wait_for($node, $db, $hangs, 20), 'hangs once more');
$node->safe_psql($db, "SELECT pg_terminate_backend($pid, 5000)");
$session->close;
is(value($node, $db, q{SELECT state FROM pfa_sync_status WHERE organization_id = 'RIO'}),
	'waiting', 'terminated: the run waits to be taken up');
sim($sim, 'clear');
($rc, $out, $err) = $node->psql($db, q{CALL pfa_sync('RIO')});
is($rc, 0, 'the next call takes it up');
is(value($node, $db, q{SELECT status, attempt FROM pfa_sync_run ORDER BY run_id DESC LIMIT 1}),
	'completed|2', 'in its second attempt');
compare($node, $db, $sim, 'RIO', 'taken up');

# ---- commands ----

$node->safe_psql($db, 'CREATE DATABASE copy TEMPLATE postgres');
is(value($node, 'copy', q{SELECT DISTINCT state FROM pfa_sync_status}), 'copy', 'a copy knows that it is one');
($rc, $out, $err) = $node->psql('copy', 'CALL pfa_sync()');
is(value($node, 'copy', q{SELECT count(*) FROM pfa_sync_run WHERE status = 'running'}), '0', 'and syncs nothing');
($rc, $out, $err) = $node->psql('copy', q{CALL pfa_sync('RIO')});
like($err, qr/copy.*HINT: .*pfa_adopt_database/s, 'which it says');
$node->safe_psql($db, 'ALTER DATABASE copy RENAME TO copied');
$node->safe_psql($db, 'DROP DATABASE copied');
# ALTER SYSTEM does not know the setting in a session that has not loaded us.
$node->append_conf('postgresql.conf', "pfa_vanguard.enabled = off\n");
$node->reload;
($rc, $out, $err) = $node->psql($db, 'CALL pfa_sync()');
like($err, qr/switched off.*HINT: .*pfa_vanguard\.enabled/s, 'CALL pfa_sync() obeys the switch');
$node->append_conf('postgresql.conf', "pfa_vanguard.enabled = on\n");
$node->reload;
is(value($node, $db, q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'pfa%'}), '0',
	'no process of ours runs');
$node->safe_psql($db, 'DROP EXTENSION pfa_vanguard CASCADE');
is(log_lines($node, '(PANIC|terminated by signal|TRAP)'), 0, 'nothing crashed');

# With the library in the next start, workers take over.
$node->safe_psql($db, 'CREATE EXTENSION pfa_vanguard');
add_source($node, $db, $sim);
$node->safe_psql($db, q{SELECT pfa_add_organization('RIO', 'pems')});
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'pfa_vanguard'\n");
$node->restart;
ok(wait_for($node, $db, q{SELECT status FROM pfa_sync_run}, 20, 'completed'),
	'preloaded, workers begin by themselves');
$node->stop;
done_testing();
