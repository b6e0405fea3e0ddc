# Secrets stay where they were put (H16): after syncs that succeed and fail, at
# log level debug5, with statements logged and pg_stat_statements, no password,
# API key or Authorization header is in the server log, in any table or view
# but the catalog of user mappings, in metrics, errors, or what psql was told.
#  - pg_user_mappings shows them to nobody else
#  - with password_file, dumps have none either
use strict;
use warnings;
use MIME::Base64;
use PfaTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $db = 'postgres';
my $dir = PostgreSQL::Test::Utils::tempdir();
my %secret = (
	password => 'Canary-7f3e-set',
	file => 'Canary-91ab-file',
	key => 'Canary-c40d-key');
my @needles = map { ($_, encode_base64("api:$_", '')) } values %secret;
my $node = new_server('main', conf => qq{
	shared_preload_libraries = 'pfa_vanguard, pg_stat_statements'
	log_min_messages = debug5
	log_statement = ddl
	log_min_error_statement = debug5
	log_parameter_max_length_on_error = -1
	log_connections = on
	compute_query_id = on
	max_connections = 50
});
my $told = '';

# Run as somebody, and keep what that one is told.
sub ask
{
	my ($sql, $role) = @_;
	my ($rc, $out, $err) = $node->psql($db, (defined $role ? "SET ROLE $role;" : '') . $sql, on_error_stop => 0);
	$told .= "$out\n$err\n";
	return "$out$err";
}

# Strings of these that hold a secret, shortened.
sub found
{
	my @texts = @_;
	my @found;
	for my $needle (@needles)
	{
		push @found, map { "$needle in: " . substr($_, 0, 200) } grep { index($_, $needle) >= 0 } @texts;
	}
	return "@found";
}

# ---- three ways to give one ----

my %sim = (
	password => simulator('--orgs', 'RIO:100', '--seed', '125', '--password', $secret{password}),
	file => simulator('--orgs', 'RIO:100', '--seed', '125', '--password', $secret{file}),
	key => simulator('--orgs', 'RIO:100', '--seed', '125', '--api-key', $secret{key}),
	);
append_to_file("$dir/password", "$secret{file}\n");
append_to_file("$dir/key", "$secret{key}\n");
chmod 0600, "$dir/password", "$dir/key";
$node->safe_psql($db, 'CREATE EXTENSION pg_stat_statements; CREATE ROLE anyone; CREATE ROLE watcher;
	SELECT pfa_grant_access(\'watcher\', \'monitor\')');
for my $name (sort keys %sim)
{
	$node->safe_psql($db, "CREATE SERVER at_$name FOREIGN DATA WRAPPER pfa_pems
		OPTIONS (base_url '$sim{$name}{url}', max_retries '0', timeout '3', page_size '40')");
}
$node->safe_psql($db, "CREATE USER MAPPING FOR CURRENT_USER SERVER at_file
		OPTIONS (username 'api', password_file '$dir/password');
	CREATE USER MAPPING FOR CURRENT_USER SERVER at_key OPTIONS (api_key_file '$dir/key')");
# with bind parameters, as drivers do
my $script = "$dir/set";
append_to_file($script, "SELECT pfa_set_credentials('at_password', 'api', :secret);\n");
$node->command_ok([ 'pgbench', '-n', '-M', 'extended', '-t', '1', '-D', "secret=$secret{password}", '-f', $script, $db ],
	'credentials are set by a call with bind parameters');

# ---- everything that can go well or wrong ----

my @faults = ('status&code=401', 'status&code=403', 'status&code=400', 'status&code=500', 'status&code=429',
	'redirect', 'cut', 'reset', 'hang', 'html', 'garbage', 'alert&text=no', 'bad_utf8&row=5',
	'raw&row=5&field=pfs_id&text=null');
for my $name (sort keys %sim)
{
	$node->safe_psql($db, "SELECT pfa_add_organization('$name', 'at_$name', 'RIO', '7 days')");
	ok(wait_for($node, $db, "SELECT bool_or(status = 'completed') FROM pfa_sync_run WHERE organization_id = '$name'"),
		"$name: syncs");
	is(value($node, $db, "SELECT count(*) FROM pfa_mirror WHERE organization_id = '$name'"), '100', "$name: records");
	is(ask("SELECT ok FROM pfa_test_source('at_$name')"), 't', "$name: pfa_test_source");
	for my $fault (@faults)
	{
		sim($sim{$name}, "fault?kind=$fault");
		ask("CALL pfa_sync('$name', 'full')") if $fault !~ /hang/;
		ask("SELECT * FROM pfa_test_source('at_$name')");
		run_sync($node, $db, $name, 'full') if $fault =~ /401|hang|redirect/;
		sim($sim{$name}, 'clear');
	}
	sim($sim{$name}, 'set?password=changed&api_key=changed');
	like(ask("CALL pfa_sync('$name', 'full')"), qr/PEMS refused the credentials/, "$name: refused credentials");
	is(run_sync($node, $db, $name, 'full'), 'failed', "$name: in a worker");
	my ($url) = $sim{$name}{url} =~ /(:\d+)$/;
	ask("ALTER SERVER at_$name OPTIONS (SET base_url 'https://127.0.0.1$url')");
	ask("CALL pfa_sync('$name', 'full'); SELECT * FROM pfa_test_source('at_$name')");
	ask("SELECT pfa_bind_credentials('at_$name')");
	like(ask("SELECT message FROM pfa_test_source('at_$name')"), qr/TLS|connection|SSL/i, "$name: no TLS there");
	ask("CALL pfa_sync('$name', 'full')");
}
# files that cannot be used
ask("ALTER USER MAPPING FOR CURRENT_USER SERVER at_file OPTIONS (SET password_file '$dir/nowhere');
	SELECT * FROM pfa_test_source('at_file');
	ALTER USER MAPPING FOR CURRENT_USER SERVER at_file OPTIONS (SET password_file '$dir/password')");
append_to_file("$dir/password", "second line\n");
ask("SELECT * FROM pfa_test_source('at_file')");
chmod 0644, "$dir/key";
ask("SELECT * FROM pfa_test_source('at_key')");
chmod 0600, "$dir/key";

# ---- where it must not be ----

ok(wait_for($node, $db, "SELECT count(*) > 20 FROM pfa_event_log"), 'there are events');
is(found(split /\n/, slurp_file($node->logfile)), '', 'no secret in the server log');
cmp_ok(log_lines($node, 'DEBUG:'), '>', 1000, 'which is as talkative as can be');
is(found($told), '', 'nor in answers and errors');

# every relation that can be read, but for the user mappings and the files
my @relations = split /\n/, value($node, $db, q{
	SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
	WHERE c.relkind IN ('r', 'v', 'm') AND c.relpersistence <> 't'
		AND n.nspname || '.' || c.relname NOT IN ('pg_catalog.pg_user_mapping', 'pg_catalog.pg_user_mappings',
			'information_schema._pg_user_mappings', 'information_schema.user_mapping_options',
			'pg_catalog.pg_statistic', 'pg_catalog.pg_hba_file_rules', 'pg_catalog.pg_ident_file_mappings',
			'pg_catalog.pg_largeobject') AND n.nspname NOT LIKE 'pg_toast%'
	ORDER BY 1});
cmp_ok(scalar(grep { /pfa_|pg_stat_statements|pg_stat_activity/ } @relations), '>', 30, scalar(@relations) . ' relations');
my $pattern = join '|', map { quotemeta } @needles;
my $hits = $node->safe_psql($db, join "\n", map {
		"SELECT '$_' FROM $_ r WHERE r::text ~ '$pattern' AND position('r::text ~' IN r::text) = 0 LIMIT 1;" } @relations);
is($hits, '', 'nor in any table or view');
like(value($node, $db, 'SELECT string_agg(umoptions::text, \' \') FROM pg_user_mappings'), qr/\Q$secret{password}\E/,
	'the search would find one: the catalog of user mappings has it');
for my $role (qw(anyone watcher))
{
	is($node->safe_psql($db, "SET ROLE $role; SELECT count(umoptions) FROM pg_user_mappings;
			SELECT count(option_value) FROM information_schema.user_mapping_options"), "0\n0",
		"$role sees no options of user mappings");
	my ($rc, $out, $err) = $node->psql($db, "SET ROLE $role; SELECT * FROM pg_user_mapping");
	like($err, qr/permission denied/, "$role cannot read their catalog");
}

# ---- dumps ----

my $dump = "$dir/dump";
$node->command_ok([ 'pg_dump', '-f', $dump, $db ], 'pg_dump');
my $text = slurp_file($dump);
like($text, qr/password_file/, 'the dump has user mappings');
unlike($text, qr/\Q$secret{file}\E|\Q$secret{key}\E/, 'but no secrets of files');

$node->stop;
is(found(split /\n/, slurp_file($node->logfile)), '', 'nor is one in the log in the end');
done_testing();
