# The cache over crashes, restarts, prepared transactions, many callers and
# standbys
#  - a transaction prepared before a restart, or a crash, is noticed when it is
#    committed after it
#  - many callers that miss one answer do not all compute it, and one whose
#    computation fails keeps nobody waiting
#  - a backend that is killed in the middle of a call or a change leaves nothing
#  - a transaction id wrapped around or many changes at once close nothing for ever
#  - a standby answers, caches nothing, and begins to cache when promoted
#  - without shared_preload_libraries everything works, uncached
#  - values are evicted where there is no room
use strict;
use warnings;
use PfaTest;
use Test::More;
use Time::HiRes qw(time usleep);

my $conf = "max_prepared_transactions = 20\nmax_connections = 120\nrestart_after_crash = on\n";
my $node = new_server('main', init => { allows_streaming => 1 },
	conf => $conf . "pfa_vanguard.cache_size = 1MB\n");

sub setup
{
	my ($n) = @_;
	$n->safe_psql('postgres', q{
		INSERT INTO pfa_organization (organization_id, pems_organization, server_name, owner, sync_interval, paused, system_identifier, database_oid)
			VALUES ('RIO', 'RIO', 'none', current_user, '1 day', true, 0, 0);
		INSERT INTO pfa_mirror (organization_id, data) VALUES ('RIO', '{"pfaId": "1", "description": "0"}')});
}
setup($node);

sub get
{
	my ($n) = @_;
	return ($n // $node)->safe_psql('postgres', q{SELECT pfa_get('RIO') #>> '{data,0,data,description}'});
}

sub total
{
	my ($column, $n) = @_;
	return ($n // $node)->safe_psql('postgres', "SELECT $column FROM pfa_cache_stats WHERE keyspace = 'all'");
}

# A transaction from before the first look that just ends makes another stamp, so
# it may take some calls.
sub is_hit
{
	my ($n) = @_;
	for (1 .. 10)
	{
		get($n);
		my $before = total('hits', $n);
		get($n);
		return 1 if total('hits', $n) > $before;
	}
	return 0;
}

sub prepare
{
	my ($value) = @_;
	$node->safe_psql('postgres', qq{BEGIN;
		UPDATE pfa_mirror SET data = data || '{"description": "$value"}' WHERE organization_id = 'RIO';
		PREPARE TRANSACTION '$value'});
}

# ---- prepared transactions ----

for my $how ('fast', 'immediate')
{
	prepare($how);
	$node->stop($how);
	$node->start;
	isnt(get(), $how, "$how restart: not committed yet");
	ok(is_hit(), 'and cached');
	$node->safe_psql('postgres', "COMMIT PREPARED '$how'");
	is(get(), $how, 'committed: seen at once');
	ok(is_hit(), 'and cached');
}
prepare('undone');
$node->restart;
get();
$node->safe_psql('postgres', "ROLLBACK PREPARED 'undone'");
is(get(), 'immediate', 'rolled back after a restart: not seen');
# more than a subject's list of open changes has room for
$node->safe_psql('postgres', q{INSERT INTO pfa_mirror (organization_id, data) SELECT 'RIO', jsonb_build_object('pfaId', 'R' || i, 'description', 'r') FROM generate_series(1, 9) i});
for my $i (1 .. 9)
{
	$node->safe_psql('postgres', qq{BEGIN; UPDATE pfa_mirror SET data = data || '{"description": "new"}' WHERE organization_id = 'RIO' AND pfa_id = 'R$i'; PREPARE TRANSACTION 'p$i'});
}
sub count_new
{
	return $node->safe_psql('postgres', q{SELECT jsonb_array_length(jsonb_path_query_array(pfa_get('RIO'), '$.data[*].data ? (@.description == "new")'))});
}
is(count_new(), 0, 'nine prepared at once: none seen');
for my $i (1 .. 9)
{
	$node->safe_psql('postgres', ($i % 3 ? 'COMMIT' : 'ROLLBACK') . " PREPARED 'p$i'");
	is(count_new(), $i - int($i / 3), "$i ended");
}
$node->safe_psql('postgres', 'SELECT txid_current()') for 1 .. 5;
ok(is_hit(), 'afterwards it is cached again');

# A transaction that runs for long hides nothing, and hinders nobody for ever.
my $long = session($node, 'postgres');
$long->run('BEGIN; SELECT txid_current()');
for my $i (1 .. 20)
{
	$node->safe_psql('postgres', qq{UPDATE pfa_mirror SET data = data || '{"description": "$i"}' WHERE organization_id = 'RIO' AND pfa_id = '1'});
	is(get(), $i, "beside a long transaction: change $i") if $i % 5 == 0;
}
ok(is_hit(), 'beside a long transaction: cached');
$long->run('ROLLBACK');
$long->close;

# ---- many callers ----

$node->safe_psql('postgres', q{INSERT INTO pfa_mirror (organization_id, data)
	SELECT 'RIO', jsonb_build_object('pfaId', 'B' || i, 'description', repeat(md5(i::text), 20)) FROM generate_series(1, 30000) i});
my @callers = map { session($node, 'postgres') } 1 .. 50;
$_->backend for @callers;
my ($misses, $waits) = (total('misses'), total('waits'));
$_->start(q{SELECT pfa_get('RIO', '{"searchText": "abcdef012345"}') #>> '{pagination,totalRecords}'}) for @callers;
my %answers = map { $_->result => 1 } @callers;
is(join(',', sort keys %answers), '0', 'fifty callers get the answer');
cmp_ok(total('misses') - $misses, '<=', 2, 'which was computed twice at most');
note('waited: ', total('waits') - $waits);
# The one who computes is cancelled: another takes over, and nobody waits long.
$node->safe_psql('postgres', q{UPDATE pfa_mirror SET data = data || '{"description": "x"}' WHERE organization_id = 'RIO' AND pfa_id = '1'});
$_->start(q{SELECT pfa_get('RIO', '{"searchText": "abcdef012345"}') #>> '{pagination,totalRecords}'}) for @callers;
$node->safe_psql('postgres', q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'SELECT pfa_get(%' AND wait_event IS NULL AND pid <> pg_backend_pid()});
my $seconds = timed(sub { %answers = map { $_->result => 1 } @callers });
delete $answers{$_} for grep { /canceling statement/ } keys %answers;
is(join(',', sort keys %answers), '0', 'the others get the answer when one is cancelled');
cmp_ok($seconds, '<', 60, 'in time');
$_->close for @callers;

# ---- eviction ----

my $evictions = total('evictions');
$node->safe_psql('postgres', q{SELECT count(pfa_cache_set('k' || i, to_jsonb(repeat('x', 5000)), '1 hour')) FROM generate_series(1, 1000) i});
cmp_ok(total('evictions'), '>', $evictions, 'values are evicted where there is no room');
cmp_ok(total('size_bytes'), '<=', 1024 * 1024, 'the cache stays within cache_size');
ok(is_hit(), 'and goes on');

# ---- killed ----

my $victim = session($node, 'postgres');
my $pid = $victim->backend;
$victim->run(q{BEGIN; UPDATE pfa_mirror SET data = data || '{"description": "never"}' WHERE organization_id = 'RIO' AND pfa_id = '1'});
is(get(), 'x', 'a change that is not committed is not seen');
my $offset = -s $node->logfile;
kill 'KILL', $pid;
ok($node->wait_for_log(qr/all server processes terminated; reinitializing/, $offset), 'the server restarts after kill -9');
ok(wait_for($node, 'postgres', 'SELECT true', 60), 'and is up again');
is(get(), 'x', 'nor after the kill');
ok(is_hit(), 'and the cache works');
$victim->close;

# ---- a standby ----

$node->backup('one');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'one', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby, 'replay');
is(get($standby), 'x', 'a standby answers');
ok(!is_hit($standby), 'but caches nothing');
is($standby->safe_psql('postgres', q{SELECT pfa_cache_set('k', '1', '1 hour'), pfa_cache_get('k')}), 'f|', 'not even values of one\'s own');
$node->safe_psql('postgres', q{UPDATE pfa_mirror SET data = data || '{"description": "y"}' WHERE organization_id = 'RIO' AND pfa_id = '1'});
$node->wait_for_catchup($standby, 'replay');
is(get($standby), 'y', 'and shows what has come');
$node->stop;
$standby->promote;
is(get($standby), 'y', 'promoted, it answers');
ok(is_hit($standby), 'and caches');
$standby->safe_psql('postgres', q{UPDATE pfa_mirror SET data = data || '{"description": "z"}' WHERE organization_id = 'RIO' AND pfa_id = '1'});
is(get($standby), 'z', 'and is not stale');
my $loaded = $standby->safe_psql('postgres', q{
	SELECT sum(blocks) > 0, sum(blocks) <= (SELECT setting::int * 3 / 4 FROM pg_settings WHERE name = 'shared_buffers'),
		bool_or(relation = 'pfa_mirror_pkey'), bool_or(relation = 'pfa_mirror'), bool_or(relation = 'pfa_modification_pkey')
	FROM pfa_prewarm()});
is($loaded, 't|t|t|t|t', 'pfa_prewarm loads what fits');
$standby->stop;

# ---- without preloading ----

my $bare = new_server('bare', preload => 0);
setup($bare);
is(get($bare), '0', 'without shared_preload_libraries pfa_get answers');
ok(!is_hit($bare), 'uncached');
is($bare->safe_psql('postgres', q{SELECT pfa_cache_set('k', '1', '1 hour'), pfa_cache_get('k'), pfa_cache_invalidate('*')}), 'f||0', 'no value is kept');
is(total('backend', $bare), 'off', 'and pfa_cache_stats says so');
$bare->stop;
is(log_lines($_, 'PANIC|TRAP'), 0, 'nothing crashed') for $node, $standby, $bare;
done_testing();
