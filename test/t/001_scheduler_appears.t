# The scheduler of a database
#  - appears soon after CREATE EXTENSION commits, without restart or setting,
#    in each database, however the statement came about (DO block, two-phase
#    commit, another extension's CASCADE excepted nothing)
#  - does not appear when CREATE EXTENSION is rolled back
#  - leaves after DROP EXTENSION and comes back after the next CREATE
#  - starts anew at ALTER EXTENSION UPDATE
#  - leaves databases without the extension, templates, and databases that do
#    not allow connections alone; a schema of the extension's name is not the
#    extension
# All processes show in pg_stat_activity with telling names and wait events,
# and hold neither snapshot nor transaction while they wait.
use strict;
use warnings;
use PfaTest;
use Test::More;

my $node = new_server('main', extension => 0,
	conf => "max_prepared_transactions = 5\n");

sub scheduler
{
	my ($db) = @_;
	return "SELECT count(*) FROM pg_stat_activity
		WHERE application_name = 'pfa_vanguard scheduler $db'
		AND datname = '$db'";
}

sub appears
{
	my ($db, $name) = @_;
	ok(wait_for($node, 'postgres', scheduler($db), 10, '1'), $name);
}

sub leaves
{
	my ($db, $name) = @_;
	ok(wait_for($node, 'postgres', scheduler($db), 10, '0'), $name);
}

# The launcher has looked into every database, and found nothing.
ok(wait_for($node, 'postgres',
	"SELECT count(*) = 1 AND bool_and(application_name = 'pfa_vanguard launcher')
	 FROM pg_stat_activity WHERE backend_type LIKE 'pfa_vanguard%'", 20),
	'launcher runs, and no scheduler without the extension');

# Rolled back: had the launcher looked for it, it would not come back to rest
# before the next, committed one.
$node->safe_psql('postgres', 'BEGIN; CREATE EXTENSION pfa_vanguard; ROLLBACK');
is(value($node, 'postgres', scheduler('postgres')), '0',
	'rolled-back CREATE EXTENSION brings no scheduler');

$node->safe_psql('postgres', 'CREATE EXTENSION pfa_vanguard');
appears('postgres', 'scheduler appears after CREATE EXTENSION');

$node->safe_psql('postgres', 'CREATE DATABASE second');
$node->safe_psql('second', q{
	CREATE SCHEMA "Odd schema";
	DO $$ BEGIN
		EXECUTE 'CREATE EXTENSION pfa_vanguard SCHEMA "Odd schema"';
	END $$});
appears('second', 'in a second database, from a DO block, in another schema');

$node->safe_psql('postgres', 'CREATE DATABASE prepared');
$node->safe_psql('prepared', q{
	BEGIN; CREATE EXTENSION pfa_vanguard; PREPARE TRANSACTION 'one';});
is(value($node, 'postgres', scheduler('prepared')), '0',
	'not before a prepared transaction commits');
$node->safe_psql('prepared', q{COMMIT PREPARED 'one'});
appears('prepared', 'after COMMIT PREPARED');

# ---- names, states, wait events ----

is(value($node, 'postgres',
	"SELECT string_agg(DISTINCT backend_type, ',') FROM pg_stat_activity
	 WHERE application_name LIKE 'pfa_vanguard%'"),
	'pfa_vanguard', 'backend_type');
ok(wait_for($node, 'postgres',
	"SELECT bool_and(wait_event_type = 'Extension' AND state = 'idle'
		AND xact_start IS NULL AND backend_xmin IS NULL AND backend_xid IS NULL
		AND query = '')
	 FROM pg_stat_activity WHERE application_name LIKE 'pfa_vanguard%'", 5),
	'waiting processes: wait event, idle, no transaction, no snapshot');
is(value($node, 'postgres',
	"SELECT string_agg(application_name, ', ' ORDER BY application_name)
	 FROM pg_stat_activity WHERE backend_type LIKE 'pfa_vanguard%'"),
	'pfa_vanguard launcher, pfa_vanguard scheduler postgres, '
	. 'pfa_vanguard scheduler prepared, pfa_vanguard scheduler second',
	'a launcher, and a scheduler for each database');

# ---- DROP EXTENSION, CREATE again ----

my $seconds = timed(sub { $node->safe_psql('second', 'DROP EXTENSION pfa_vanguard') });
cmp_ok($seconds, '<', 1, 'DROP EXTENSION with an idle scheduler takes no second');
leaves('second', 'scheduler leaves after DROP EXTENSION');
$node->safe_psql('second', 'CREATE SCHEMA pfa_vanguard');
$node->safe_psql('second', 'CREATE TABLE pfa_vanguard.pfa_sync_run (x int)');
$node->safe_psql('second', 'CREATE EXTENSION pfa_vanguard');
appears('second', 'and comes back with the next CREATE EXTENSION');

# ---- ALTER EXTENSION UPDATE ----

my ($before) = worker_pids($node, 'pfa_vanguard scheduler second');
$node->safe_psql('second', 'ALTER EXTENSION pfa_vanguard UPDATE');
ok(wait_for($node, 'postgres',
	"SELECT count(*) FROM pg_stat_activity
	 WHERE application_name = 'pfa_vanguard scheduler second' AND pid <> $before",
	20, '1'), 'ALTER EXTENSION UPDATE has the workers start anew');

# ---- where none belongs ----

$node->safe_psql('postgres', 'CREATE DATABASE bare');
$node->safe_psql('bare', 'CREATE SCHEMA pfa_vanguard CREATE TABLE pfa_sync_run (x int)');
$node->safe_psql('template1', 'CREATE EXTENSION pfa_vanguard');
$node->safe_psql('postgres', 'CREATE DATABASE from_template');
appears('from_template', 'in a database made from a template that has the extension');
is(value($node, 'postgres',
	"SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'pfa_vanguard%'
	 AND datname IN ('bare', 'template1', 'template0')"), '0',
	'not in templates, nor where only a schema has the name');

$node->safe_psql('postgres', 'ALTER DATABASE from_template ALLOW_CONNECTIONS false');
ok(wait_for($node, 'postgres', scheduler('from_template'), 20, '0'),
	'leaves a database that no longer allows connections');

is(log_lines($node, '(PANIC|terminated by signal|TRAP)'), 0, 'nothing crashed');
$node->stop;
done_testing();
