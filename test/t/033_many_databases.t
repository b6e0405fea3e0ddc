# Many databases, with and without the extension:
#  - after the server's start each that has it is scheduled, soon, by one look
#    at a time: never more than one process looks into databases
#  - all of them sync; those without are left alone and cost nothing afterwards
#  - CREATE EXTENSION in one more acts within seconds
use strict;
use warnings;
use PfaTest;
use Test::More;
use Time::HiRes qw(time usleep);

my ($with, $without) = ($ENV{PFA_DATABASES} || 10, 3 * ($ENV{PFA_DATABASES} || 10));
my $node = new_server('main', extension => 0, conf => 'max_worker_processes = ' . ($with + 8) . "\n");
my $sim = simulator('--orgs', 'RIO:50', '--seed', '47');
my $session = session($node, 'postgres');

$node->safe_psql('postgres', 'CREATE DATABASE model');
$node->safe_psql('model', 'CREATE EXTENSION pfa_vanguard');
add_source($node, 'model', $sim);
$session->run("CREATE DATABASE without$_") for 1 .. $without;
$session->run("CREATE DATABASE with$_ TEMPLATE model") for 1 .. $with;
$session->run('DROP DATABASE model');
for (1 .. $with)
{
	$node->safe_psql("with$_", q{SELECT pfa_add_organization('RIO', 'pems', NULL, '1 day')});
}
$session->close;
$node->stop;

# ---- from a cold start ----

my $offset = -s $node->logfile;
my $start = time;
$node->start;
$session = session($node, 'postgres');
my ($schedulers, $most) = (0, 0);

# How many schedulers there are, and the processes that look into a database: a
# scheduler that has not found the extension yet has no name of its own, as a
# sync worker that has not found its run.
sub look
{
	my ($known, $pids) = split /\|/, $session->run(q{
		SELECT count(*) FILTER (WHERE application_name LIKE 'pfa_vanguard scheduler with%'),
			string_agg(pid::text, ' ') FILTER (WHERE application_name NOT LIKE 'pfa_vanguard scheduler with%'
				AND application_name NOT LIKE 'pfa_vanguard sync%' AND application_name NOT LIKE '%launcher'
				AND NOT EXISTS (SELECT FROM pg_stat_activity s WHERE s.datid = a.datid
					AND s.application_name LIKE 'pfa_vanguard scheduler with%'))
		FROM pg_stat_activity a WHERE backend_type LIKE 'pfa_vanguard%'}), 2;
	return ($known, split ' ', $pids // '');
}
while ($schedulers < $with && time < $start + 60)
{
	my ($known, @now) = look();
	$schedulers = $known;
	if (@now > 1)
	{
		# one that is just leaving does not look any more
		usleep(5_000);
		my (undef, @then) = look();
		my %still = map { $_ => 1 } @then;
		my $looking = grep { $still{$_} } @now;
		$most = $looking if $looking > $most;
	}
	usleep(10_000);
}
is($schedulers, $with, "$with databases have their schedulers");
cmp_ok(time - $start, '<', 40, 'within a second each');
cmp_ok($most, '<=', 1, 'databases are looked into one at a time');
for (1 .. $with)
{
	ok(wait_for($node, "with$_", q{SELECT count(*) > 0 AND bool_and(status = 'completed') FROM pfa_sync_run}, 60),
		"with$_ is synced");
}
is($session->run(q{SELECT string_agg(DISTINCT datname, ' ') FROM pg_stat_activity
	WHERE backend_type LIKE 'pfa%' AND datname NOT LIKE 'with%'}), '', 'nobody stays where the extension is not');

# ---- one more ----

my $seconds = timed(sub {
	$node->safe_psql('without1', 'CREATE EXTENSION pfa_vanguard');
	ok(wait_for($node, 'postgres', q{SELECT count(*) FROM pg_stat_activity
		WHERE application_name = 'pfa_vanguard scheduler without1'}, 10, '1'), 'CREATE EXTENSION in one more') });
cmp_ok($seconds, '<', 5, 'acts within seconds');
is(log_lines($node, '(PANIC|terminated by signal|TRAP|WARNING|FATAL)', $offset), 0, 'without a complaint in the log');
$session->close;
$node->stop;
done_testing();
