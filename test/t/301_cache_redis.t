# Redis in all its states
#  - login by user, password, password file, database number and prefix; what
#    is there is plain JSON with a lifetime
#  - a Redis that is stopped, gone, refuses the login, or speaks another protocol
#    costs each caller redis_timeout once, then nothing, until it answers again;
#    one event and one log line tell when it begins, and one when it ends
#  - a Redis that is full or a read-only replica, and keys of another type, cost
#    nothing but the hit
#  - a caller can be terminated while it waits
#  - a value that somebody else has written is not believed
#  - changes that Redis could not be told, and what an earlier life of the server
#    left, are deleted by the scheduler
#  - no password is in log, event or view
use strict;
use warnings;
use IO::Socket::INET;
use PfaTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

plan skip_all => 'no redis-server' if system('which redis-server > /dev/null 2>&1') != 0;

my $dir = PostgreSQL::Test::Utils::tempdir_short();
my $port = PostgreSQL::Test::Cluster::get_free_port();
my $redis = 0;

sub start_redis
{
	my (@args) = @_;
	$redis = fork();
	if ($redis == 0)
	{
		open STDOUT, '>>', "$dir/redis.log";
		exec 'redis-server', '--port', $port, '--bind', '127.0.0.1', '--save', '',
		  '--appendonly', 'no', '--dir', $dir, @args;
		exit 1;
	}
	for (1 .. 1200)
	{
		return if `redis-cli -p $port ping 2>&1` =~ /PONG|NOAUTH/;
		usleep(50_000);
	}
	die 'redis does not start';
}

sub stop_redis
{
	return unless $redis;
	kill 'CONT', $redis;
	kill 'KILL', $redis;
	waitpid $redis, 0;
	$redis = 0;
}

END
{
	my $status = $?;
	stop_redis();
	$? = $status;
}

sub cli
{
	my ($command) = @_;
	my $out = `redis-cli --no-auth-warning -p $port $command`;
	chomp $out;
	return $out;
}

start_redis();
cli('set pfa:RIO:stats old');
my $node = new_server('main', conf => qq{
	pfa_vanguard.cache_backend = redis
	pfa_vanguard.redis_url = 'redis://localhost:$port'
	pfa_vanguard.redis_timeout = 2s
});
$node->safe_psql('postgres', q{
	INSERT INTO pfa_organization (organization_id, pems_organization, server_name, owner, sync_interval, paused, system_identifier, database_oid)
		VALUES ('RIO', 'RIO', 'none', current_user, '1 day', true, 0, 0);
	INSERT INTO pfa_mirror (organization_id, data) SELECT 'RIO', jsonb_build_object('pfaId', 'P' || i, 'description', 'x') FROM generate_series(1, 100) i;
});

sub stat_of
{
	my ($column) = @_;
	return $node->safe_psql('postgres', "SELECT $column FROM pfa_cache_stats WHERE keyspace = 'all'");
}

# Whether the second of two calls is a hit; a sweep of the scheduler may come
# between them.
sub hits
{
	for (1 .. 5)
	{
		my $before = stat_of('hits');
		$node->safe_psql('postgres', q{SELECT pfa_get('RIO'); SELECT pfa_get('RIO')});
		return 1 if stat_of('hits') > $before;
	}
	return 0;
}

sub change
{
	$node->safe_psql('postgres', q{UPDATE pfa_mirror SET data = data || jsonb_build_object('x', random()) WHERE organization_id = 'RIO' AND pfa_id = 'P1'});
}

# Down or up, as a session finds by asking.
sub becomes
{
	my ($up, $name) = @_;
	ok(wait_for($node, 'postgres', "DO 'BEGIN PERFORM pfa_get(''RIO''); END'; SELECT up FROM pfa_cache_stats WHERE keyspace = 'all'", 30, $up ? 't' : 'f'), $name);
}

sub url
{
	my ($url) = @_;
	setting($node, 'pfa_vanguard.redis_url', $url);
}

# ---- ways in ----

ok(is_swept('pfa:RIO:stats'), 'what an earlier life of the server left is deleted');
becomes(1, 'without login');
ok(hits(), 'hits');
is(cli('get pfa:RIO:data'), $node->safe_psql('postgres', "SET pfa_vanguard.cache_backend = off; SELECT pfa_get('RIO')"), 'plain JSON');
my $ttl = cli('ttl pfa:RIO:data');
ok($ttl > 260 && $ttl <= 300, "lifetime is about 300 s ($ttl)");
cmp_ok(cli('ttl pfa:RIO:data:sealed'), '<=', 300, 'of both');
$node->safe_psql('postgres', "SELECT pfa_organization_config('RIO'), pfa_permissions(), pfa_stats('RIO'), pfa_cache_set('ai:query:1', '1', '1 hour')");
is(cli("exists org:RIO:config user:postgres:perms pfa:RIO:stats ai:query:1"), 4, 'the keys of the specification');
ok(cli('ttl org:RIO:config') > 800, 'and their lifetimes');
is($node->safe_psql('postgres', "SELECT pfa_cache_get('ai:query:1')"), '1', 'a value of one\'s own');
cli('set unrelated 1');
is($node->safe_psql('postgres', "SELECT pfa_cache_invalidate('*')"), 5, 'invalidated');
is(cli('get unrelated'), 1, 'but not what others keep there');

url("redis://localhost:$port/3");
ok(hits(), 'database number');
is(cli('-n 3 exists pfa:RIO:data'), 1, 'is where the values are');
url("redis://127.0.0.1:$port");
setting($node, 'pfa_vanguard.redis_key_prefix', 'x[y]*:');
ok(hits(), 'prefix');
is(cli('exists "x[y]*:pfa:RIO:data"'), 1, 'begins the keys');
is($node->safe_psql('postgres', "SELECT pfa_cache_invalidate('*')"), 1, 'and bounds what is invalidated');
setting($node, 'pfa_vanguard.redis_key_prefix', undef);

cli('acl setuser ann on \>canary-7f3 ~* +@all');
url("redis://ann:canary-7f3\@localhost:$port");
ok(hits(), 'user and password');
PostgreSQL::Test::Utils::append_to_file("$dir/password", "canary-9c1\n");
chmod 0600, "$dir/password";
cli('acl setuser ben on \>canary-9c1 ~* +@all');
setting($node, 'pfa_vanguard.redis_password_file', "$dir/password");
url("redis://ben\@localhost:$port");
ok(hits(), 'password file');

# ---- who refuses, and what is told ----

my $offset = -s $node->logfile;
cli('acl deluser ben');
change();
becomes(0, 'a login that is refused: down');
for (1 .. 20) { $node->safe_psql('postgres', "SELECT pfa_get('RIO')") }
is(log_lines($node, 'cache: Redis .*refuses user', $offset), 1, 'one line in the log');
cli('acl setuser ben on \>canary-9c1 ~* +@all');
becomes(1, 'accepted: up again');
is(log_lines($node, 'cache: Redis answers again', $offset), 1, 'one line in the log');
ok(wait_for($node, 'postgres', q{SELECT string_agg(code || ' ' || n, ', ' ORDER BY code) FROM (SELECT code, count(*) AS n FROM pfa_event_log WHERE component = 'cache' AND (code = 'redis_up' OR message LIKE '%refuses%') AND logged_at > now() - interval '1 minute' GROUP BY code) x}, 30, 'redis_down 1, redis_up 1')
	|| wait_for($node, 'postgres', q{SELECT count(*) = 1 FROM pfa_event_log WHERE component = 'cache' AND message LIKE '%refuses%'}, 1), 'one event');
chmod 0644, "$dir/password";
stop_redis();
becomes(0, 'gone: down');
start_redis();
cli('acl setuser ben on \>canary-9c1 ~* +@all');
$node->safe_psql('postgres', "SELECT pfa_get('RIO')");
is(stat_of('up'), 'f', 'a password file that others can read is not used, and no call fails');
chmod 0600, "$dir/password";
becomes(1, 'used again');
unlike(slurp_file($node->logfile, $offset), qr/canary-9c1/, 'no password of the file in the log');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pfa_event_log WHERE message LIKE '%canary%' OR context::text LIKE '%canary%'}), 0, 'nor in events');
setting($node, 'pfa_vanguard.redis_password_file', undef);
url("redis://localhost:$port");
becomes(1, 'without login again');

# ---- stopped ----

ok(hits(), 'hits');
setting($node, 'pfa_vanguard.redis_timeout', '50ms');
usleep(100_000);
kill 'STOP', $redis;
my $first = timed(sub { $node->safe_psql('postgres', "SELECT pfa_get('RIO')") });
my $then = timed(sub { $node->safe_psql('postgres', "SELECT pfa_get('RIO')") for 1 .. 5 });
is(stat_of('up'), 'f', 'stopped: down');
# Who has waited for redis_timeout has counted an error.
my $errors = stat_of('errors');
$node->safe_psql('postgres', q{
	DO $$ BEGIN
		FOR i IN 1 .. 200 LOOP
			PERFORM pfa_get('RIO');
			PERFORM pg_sleep(0.005);
		END LOOP; END $$});
my $waited = stat_of('errors') - $errors;
cmp_ok($waited, '<=', 8, "of 200 calls in a second, $waited waited for redis_timeout");
$errors = stat_of('errors');
$node->safe_psql('postgres', q{
	CREATE PROCEDURE commits() LANGUAGE plpgsql AS $$ BEGIN
		FOR i IN 1 .. 100 LOOP
			UPDATE pfa_mirror SET data = data || jsonb_build_object('x', i) WHERE organization_id = 'RIO' AND pfa_id = 'P1';
			COMMIT;
		END LOOP; END $$;
	CALL commits()});
$waited = stat_of('errors') - $errors;
cmp_ok($waited, '<=', 10, "nor commits: $waited of 100 did");
setting($node, 'pfa_vanguard.redis_timeout', '10s');
usleep(100_000);
my $session = session($node, 'postgres');
my $pid = $session->backend;
$session->start("SELECT count(pfa_get('RIO')) FROM generate_series(1, 100000)");
ok(wait_for($node, 'postgres', "SELECT wait_event_type = 'Extension' FROM pg_stat_activity WHERE pid = $pid", 30), 'a caller waits for Redis');
# a whole wait takes 10 s
$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
ok(wait_for($node, 'postgres', "SELECT count(*) FROM pg_stat_activity WHERE pid = $pid", 6, '0'), 'and can be terminated');
$session->close;
setting($node, 'pfa_vanguard.redis_timeout', undef);
change();
kill 'CONT', $redis;
becomes(1, 'goes on: up');
ok(hits(), 'hits');

# What was kept before the change that Redis was not told goes, in a sweep of all
# that is ours.  One that is due from before may come first.
sub is_swept
{
	my ($key) = @_;
	for (1 .. 300) { return 1 if cli("exists $key") eq '0'; usleep(100_000) }
	return 0;
}
for (1 .. 50)
{
	$node->safe_psql('postgres', "SELECT pfa_cache_set('pfa:RIO:own', '1', '1 hour')");
	last if cli('exists pfa:RIO:own') eq '1';
}
kill 'STOP', $redis;
change();
kill 'CONT', $redis;
ok(is_swept('pfa:RIO:own'), 'plain values that are over are deleted once Redis can be told');

# ---- values of somebody else ----

becomes(1, 'up');
hits();
my $page = $node->safe_psql('postgres', "SET pfa_vanguard.cache_backend = off; SELECT pfa_get('RIO')");
my $rejected = stat_of('rejected');
my $len = cli('strlen pfa:RIO:data:sealed');
my $wrong = 0;
for my $i (0 .. 60)
{
	my $at = int($len * $i / 61);
	cli("eval \"local v = redis.call('getrange', KEYS[1], $at, $at) return redis.call('setrange', KEYS[1], $at, string.char((string.byte(v) + 1 + $i) % 256))\" 1 pfa:RIO:data:sealed");
	$wrong++ if $node->safe_psql('postgres', "SELECT pfa_get('RIO')") ne $page;
}
is($wrong, 0, 'no flipped byte is believed');
cmp_ok(stat_of('rejected') - $rejected, '>', 30, 'and they are counted');
$node->safe_psql('postgres', "SELECT pfa_get('RIO', page_size => 5), pfa_get('RIO')");
cli("eval \"for _, k in ipairs(redis.call('keys', 'pfa:RIO:data:*:sealed')) do redis.call('copy', k, 'pfa:RIO:data:sealed', 'replace') end return 1\" 0");
is($node->safe_psql('postgres', "SELECT pfa_get('RIO')"), $page, 'nor another page\'s value');
cli('set pfa:RIO:data "{}"');
is($node->safe_psql('postgres', "SELECT pfa_get('RIO')"), $page, 'plain values are never read');

# ---- who answers with errors ----

# Calls right and Redis up meanwhile; well again after the cure.
sub unwell
{
	my ($name, $cure, $counter) = @_;
	$counter //= 'errors';
	my $before = stat_of($counter);
	my $right = $node->safe_psql('postgres', "SET pfa_vanguard.cache_backend = off; SELECT pfa_get('RIO')");
	is($node->safe_psql('postgres', "SELECT pfa_get('RIO')"), $right, "$name: the right answer") for 1 .. 2;
	cmp_ok(stat_of($counter), '>', $before, "$name: counted");
	is(stat_of('up'), 't', "$name: up");
	$cure->();
	ok(hits(), "$name: hits again");
}

cli('del pfa:RIO:data:sealed');
cli('rpush pfa:RIO:data:sealed x');
# What is kept takes its place, so the first call is the cure.
unwell('a list instead of a value', sub { });
cli(q{eval "redis.call('set', KEYS[1], string.rep('x', 20000000)) return 1" 1 pfa:RIO:data:sealed});
unwell('a huge value', sub { }, 'rejected');
cli('del pfa:RIO:data:sealed');
cli('set pfa:RIO:index x');
unwell('a text instead of an index', sub { change() });
cli('config set maxmemory 1');
change();
is(cli('exists pfa:RIO:data pfa:RIO:data:sealed'), 0, 'full: what has changed is deleted all the same');
unwell('full', sub { cli('config set maxmemory 0') });
# Of a master that does not exist: what is there stays.
cli('replicaof 127.0.0.1 1');
change();
unwell('a read-only replica', sub { cli('replicaof no one') });

# ---- another protocol ----

$page = $node->safe_psql('postgres', "SET pfa_vanguard.cache_backend = off; SELECT pfa_get('RIO')");
stop_redis();
becomes(0, 'gone');
my $server = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $port, Listen => 5, ReuseAddr => 1) or die "cannot listen: $!";
my $talker = fork();
if ($talker == 0)
{
	while (my $client = $server->accept)
	{
		local $SIG{PIPE} = 'IGNORE';
		print $client "HTTP/1.1 400 Bad Request\r\n\r\n" x 100;
		sleep 1;
		close $client;
	}
	exit 0;
}
close $server;
usleep(1_500_000);
is($node->safe_psql('postgres', "SELECT pfa_get('RIO')"), $page, 'a server of another protocol does no harm') for 1 .. 3;
is(stat_of('up'), 'f', 'and counts as down');
kill 'KILL', $talker;
waitpid $talker, 0;

# ---- an earlier life ----

start_redis();
becomes(1, 'up');
hits();
is(cli('exists pfa:RIO:data'), 1, 'kept');
$node->stop('immediate');
cli('set pfa:RIO:data "{\\"old\\": 1}"');
$node->start;
my $first_page = $node->safe_psql('postgres', "SELECT pfa_get('RIO')");
is($first_page, $page, 'after a crash nothing from before is believed');
my $new = 0;
for (1 .. 300) { last if $new = cli('get pfa:RIO:data') !~ /old/; usleep(100_000) }
ok($new, 'and what applications could read is gone or new');

is(log_lines($node, 'PANIC|terminated by signal|TRAP'), 0, 'nothing crashed');
$node->stop;
done_testing();
