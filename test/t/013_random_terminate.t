# pg_terminate_backend() of a random process of ours, again and again, while
# syncs are running (PFA_TERMINATE times; 20):
#  - each time every scheduler is back within 6 s, the launcher too
#  - no run is lost: all complete, and the mirror equals PEMS
#  - nothing crashes
# and so for processes that have just been forked.
use strict;
use warnings;
use PfaTest;
use Test::More;
use Time::HiRes qw(time usleep);

my $rounds = $ENV{PFA_TERMINATE} || 20;
my $seed = $ENV{PFA_SEED} || 1;
my $node = new_server('main');
my $sim = simulator('--orgs', 'RIO:3000,LIMA:3000', '--seed', '13');
my @dbs = qw(postgres second);

$node->safe_psql('postgres', 'CREATE DATABASE second');
$node->safe_psql('second', 'CREATE EXTENSION pfa_vanguard');
sim($sim, 'fault?kind=latency&ms=30&jitter=60');
for my $db (@dbs)
{
	add_source($node, $db, $sim, 'pems', q{page_size '300', requests_in_flight '2'});
	$node->safe_psql($db,
		"SELECT pfa_add_organization(o, 'pems', NULL, '1 day') FROM unnest('{RIO,LIMA}'::text[]) o");
}

my $wanted = q{SELECT count(*) FROM pg_stat_activity WHERE application_name IN
	('pfa_vanguard launcher', 'pfa_vanguard scheduler postgres', 'pfa_vanguard scheduler second')};
my $session = session($node, 'postgres');

sub all_back
{
	return timed(sub {
		my $end = time + 30;
		usleep(30_000) until $session->run($wanted) eq '3' || time > $end;
	});
}

diag("seed $seed");
srand $seed;
all_back();
my ($slowest, $killed, %kinds) = (0, 0);
for my $round (1 .. $rounds)
{
	# Something to do, all the time.
	$node->safe_psql($_, 'SELECT pfa_sync_now(NULL, \'full\')') for @dbs;
	my @rows = split /\n/, $session->run(
		"SELECT pid, split_part(application_name, ' ', 2) FROM pg_stat_activity
		 WHERE backend_type LIKE 'pfa_vanguard%'");
	my ($pid, $kind) = split /\|/, $rows[rand @rows];
	$session->run("SELECT pg_terminate_backend($pid, 5000)");
	$kinds{$kind}++;
	my $seconds = all_back();
	$slowest = $seconds if $seconds > $slowest;
}
cmp_ok($slowest, '<', 6, sprintf('launcher and schedulers are back within 6 s each time (%.1f s)', $slowest));
diag(join ', ', map { "$kinds{$_} $_" } sort keys %kinds);

sim($sim, 'clear');
ok(synced($node, $_), "$_: all runs complete") for @dbs;

# ---- in the first moments of a process ----

# New children of the postmaster, whatever they are about to be.
my ($postmaster) = split /\n/, PostgreSQL::Test::Utils::slurp_file($node->data_dir . '/postmaster.pid');
my $children = "/proc/$postmaster/task/$postmaster/children";

sub children
{
	return split ' ', PostgreSQL::Test::Utils::slurp_file($children);
}

SKIP:
{
	skip 'needs the children of a process in /proc', 3 unless -r $children;
	my ($hit, $ended) = (0, 0);
	my $mine = $session->backend;
	for my $round (1 .. $rounds)
	{
		my %known = map { $_ => 1 } children(), $mine;
		my $end = time + 1;
		my @new;

		my $run = $session->run(q{SELECT pfa_sync_now('LIMA', 'full')});
		until (@new || time > $end)
		{
			@new = grep { !$known{$_} } children();
		}
		usleep(rand 8000);
		$hit += kill 'TERM', @new;
		$ended++ if $session->run("SELECT pfa_sync_wait($run, '20 s')") eq 'completed';
	}
	cmp_ok($hit, '>', 0, "terminated $hit processes in their first milliseconds");
	is($ended, $rounds, 'each time the run completes all the same');
	cmp_ok(all_back(), '<', 6, 'launcher and schedulers are back');
}

for my $db (@dbs)
{
	ok(synced($node, $db), "$db: all runs complete");
	is(value($node, $db, "SELECT count(*) FROM pfa_sync_run WHERE status <> 'completed'"),
		'0', "$db: none failed or got lost");
	compare($node, $db, $sim, $_, "$db, $_") for qw(RIO LIMA);
}
is(log_lines($node, '(PANIC|terminated by signal|TRAP)'), 0, 'nothing crashed');
$session->close;
$node->stop;
done_testing();
