# DROP DATABASE, ALTER DATABASE RENAME and SET TABLESPACE, CREATE DATABASE with
# a template just work while workers of that database are in mid-download:
#  - each succeeds at once, without FORCE, on the first try
#  - CREATE DATABASE ... TEMPLATE from within the template itself too
#  - afterwards the workers are back, under the new name, and the run that was
#    interrupted completes
#  - a command that fails or is cancelled leaves a usable database and workers
#  - workers do not step aside for who may not run the command
use strict;
use warnings;
use PfaTest;
use Test::More;
use Time::HiRes qw(time usleep);

my $node = new_server('main', conf => "log_min_duration_statement = -1\n");
my $sim = simulator('--orgs', 'RIO:3000', '--seed', '17');
my $spaces = PostgreSQL::Test::Utils::tempdir();
my $round = 0;

# Milliseconds may pass under load; five seconds are what the server waits
# for others to leave, so that is no success.
my $limit = 4;

setting($node, 'pfa_vanguard.max_concurrent_syncs', 2);
$node->safe_psql('postgres', "CREATE TABLESPACE other LOCATION '$spaces'");

sub scheduler_of
{
	my ($db) = @_;
	return "SELECT count(*) FROM pg_stat_activity
		WHERE application_name = 'pfa_vanguard scheduler $db' AND datname = '$db'";
}

# A database with a run that hangs in mid-download.
sub hanging
{
	my $db = 'pfa' . ++$round;

	sim($sim, 'clear');
	sim($sim, 'fault?kind=hang&after=1000');
	$node->safe_psql('postgres', "CREATE DATABASE $db");
	$node->safe_psql($db, 'CREATE EXTENSION pfa_vanguard');
	add_source($node, $db, $sim, 'pems', q{page_size '500', timeout '300'});
	$node->safe_psql($db, "SELECT pfa_add_organization('RIO', 'pems', NULL, '1 day')");
	ok(wait_for($node, $db,
		"SELECT rows_seen >= 500 FROM pfa_sync_status WHERE state = 'running'", 20),
		"$db: a run hangs in mid-download");
	return $db;
}

sub quick
{
	my ($name, $sql, $db) = @_;
	my ($rc, $out, $err);
	my $seconds = timed(sub {
		($rc, $out, $err) = $node->psql($db // 'postgres', $sql) });

	is($err, '', "$name succeeds");
	cmp_ok($seconds, '<', $limit, "$name at once");
}

sub goes_on
{
	my ($db, $name) = @_;
	sim($sim, 'clear');
	ok(wait_for($node, 'postgres', scheduler_of($db), 8, '1'),
		"$name: the scheduler is back");
	ok(wait_for($node, $db,
		"SELECT status FROM pfa_sync_run ORDER BY run_id DESC LIMIT 1", 20, 'completed'),
		"$name: the run completes");
	compare($node, $db, $sim, 'RIO', $name);
}

# ---- DROP ----

my $db = hanging();
quick('DROP DATABASE', "DROP DATABASE $db");
is(value($node, 'postgres',
	"SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'pfa_vanguard%'
	 AND application_name NOT IN ('pfa_vanguard launcher', 'pfa_vanguard scheduler postgres')"),
	'0', 'and no worker is left');

# ---- RENAME ----

$db = hanging();
quick('ALTER DATABASE RENAME', "ALTER DATABASE $db RENAME TO renamed");
goes_on('renamed', 'RENAME');

# ---- SET TABLESPACE ----

sim($sim, 'fault?kind=hang&after=1000');
$node->safe_psql('renamed', q{SELECT pfa_sync_now('RIO', 'full')});
ok(wait_for($node, 'renamed',
	"SELECT rows_seen >= 500 FROM pfa_sync_status WHERE state = 'running'", 20), 'hangs again');
quick('ALTER DATABASE SET TABLESPACE', 'ALTER DATABASE renamed SET TABLESPACE other');
goes_on('renamed', 'SET TABLESPACE');

# ---- CREATE DATABASE ... TEMPLATE ----

$db = hanging();
quick('CREATE DATABASE with TEMPLATE', "CREATE DATABASE copy1 TEMPLATE $db");
quick('CREATE DATABASE of the session\'s own', "CREATE DATABASE copy2 TEMPLATE $db", $db);
quick('CREATE DATABASE by file copy', "CREATE DATABASE copy3 TEMPLATE $db STRATEGY file_copy");
goes_on($db, 'TEMPLATE');
quick("DROP DATABASE of a copy", "DROP DATABASE $_") for qw(copy1 copy2 copy3);

# ---- a command that fails ----

my ($rc, $out, $err) = $node->psql('postgres', "CREATE DATABASE $db TEMPLATE $db");
like($err, qr/already exists/, 'a command that fails');
goes_on($db, 'after the failure');

# ---- one that is cancelled, by a session that does not leave ----

my $guest = session($node, $db);
my $dropper = session($node, 'postgres');
my $watch = session($node, 'postgres');
my $pid = $dropper->backend;

# Without a new connection, which would wait for the command's lock.
sub watch_for
{
	my ($session, $query, $expected, $name) = @_;
	my $end = time + 10;
	my $answer = '';
	while (time < $end)
	{
		last if ($answer = $session->run($query)) eq $expected;
		usleep(10_000);
	}
	is($answer, $expected, $name);
}

$guest->run('SELECT 1');
$watch->run('SELECT 1');
$dropper->start("DROP DATABASE $db");
watch_for($watch, scheduler_of($db), '0', 'workers step aside for DROP DATABASE');
$guest->run("SELECT pfa_sync_now('RIO')");
is($guest->run("SELECT state, reason FROM pfa_sync_status"),
	'queued|workers step aside for a command on this database', 'a sync has to wait, and says why');
$watch->run("SELECT pg_cancel_backend($pid)");
like($dropper->result, qr/canceling statement/, 'it is cancelled');
goes_on($db, 'after a cancelled DROP');
is($guest->run('SELECT 1'), '1', 'other sessions were not disturbed');

# The session that runs the command dies: its bar goes with it.
$dropper->start("DROP DATABASE $db");
watch_for($watch, scheduler_of($db), '0', 'once more');
$watch->run("SELECT pg_terminate_backend($pid, 5000)");
watch_for($watch, scheduler_of($db), '1',
	'workers return when the session that barred them has died');
$_->close for $dropper, $guest, $watch;

# ---- who may not ----

$node->safe_psql('postgres', 'CREATE ROLE nobody_special LOGIN');
my ($scheduler) = worker_pids($node, "pfa_vanguard scheduler $db");
for my $sql ("DROP DATABASE $db", "ALTER DATABASE $db RENAME TO x", "CREATE DATABASE x TEMPLATE $db",
	"ALTER DATABASE $db SET TABLESPACE other")
{
	($rc, $out, $err) = $node->psql('postgres', "SET ROLE nobody_special; $sql");
	like($err, qr/must be owner|permission denied/, "$sql needs rights");
}
is((worker_pids($node, "pfa_vanguard scheduler $db"))[0], $scheduler,
	'workers do not step aside for who may not');

# ---- and again, quickly ----

for (1 .. 3)
{
	my $name = hanging();
	quick('DROP DATABASE', "DROP DATABASE $name");
}
is(log_lines($node, '(PANIC|terminated by signal|TRAP)'), 0, 'nothing crashed');
is(value($node, 'postgres', 'SELECT count(*) FROM pg_database WHERE datconnlimit = -2'), '0',
	'no database is invalid');
$node->stop;
done_testing();
