# TLS (H11), with real certificates and a simulator behind each of them:
#  - a certificate that nobody vouches for, an expired one and one of another
#    host are refused, before any credential is sent, without retries, and the
#    error names what is wrong with the certificate
#  - ca_file makes the right one pass, and only that; a ca_file that cannot be
#    used is named
#  - TLS 1.1 is refused, whatever verify_tls says
#  - verify_tls = off works, for superusers, with a WARNING and a standing alert
use strict;
use warnings;
use PfaTest;
use PostgreSQL::Test::Cluster;
use Test::More;
use Time::HiRes qw(usleep);

my $db = 'postgres';
my $dir = PostgreSQL::Test::Utils::tempdir();
certificate($dir, 'ca');
certificate($dir, 'self', names => 'IP:127.0.0.1');
certificate($dir, 'good', names => 'IP:127.0.0.1', issuer => 'ca');
certificate($dir, 'expired', names => 'IP:127.0.0.1', issuer => 'ca', days => -1);
certificate($dir, 'other', names => 'DNS:pems.example.com', issuer => 'ca');

my $node = new_server('main');
my %sim;
for my $name (qw(self good expired other))
{
	$sim{$name} = simulator('--orgs', 'RIO:100', '--seed', '121', '--tls-cert', "$dir/$name.pem",
		'--tls-key', "$dir/$name.key");
	add_source($node, $db, $sim{$name}, "at_$name", "max_retries '3'");
	# by hand only
	$node->safe_psql($db, "SELECT pfa_add_organization('$name', 'at_$name', 'RIO');
		SELECT pfa_pause_organization('$name')");
}

# Sync in the foreground; the error, '' where there is none.
sub try
{
	my ($name) = @_;
	my ($rc, $out, $err) = $node->psql($db,
		"SET client_min_messages = warning; SELECT pfa_resume_organization('$name'); CALL pfa_sync('$name', 'full')");
	$node->safe_psql($db, "SELECT pfa_pause_organization('$name')");
	return $rc == 0 ? '' : $err;
}

sub refused
{
	my ($name, $error, $what) = @_;
	like(try($name), $error, "$what: refused, and why");
	is(last_run($node, $db, $name, 'status, retries, api_calls'), 'failed|0|1', "$what: not tried again");
	is(scalar(requests_of($sim{$name})), 0, "$what: no request has arrived");
}

sub completes
{
	my ($name, $what) = @_;
	is(try($name), '', "$what: syncs");
	is(value($node, $db, "SELECT count(*) FROM pfa_mirror WHERE organization_id = '$name'"), '100',
		"$what: all records are there");
}

my $unknown = qr/SSL certificate problem: .*\(option ca_file of the server names/;
refused('self', qr/self.signed certificate/, 'signed by itself');
refused('self', $unknown, 'signed by itself');
refused('good', $unknown, 'signed by an unknown authority');

$node->safe_psql($db, "ALTER SERVER at_$_ OPTIONS (ADD ca_file '$dir/ca.pem')") for qw(good expired other);
$node->safe_psql($db, "ALTER SERVER at_self OPTIONS (ADD ca_file '$dir/self.pem')");
completes('good', 'signed by the authority of ca_file');
completes('self', 'its own certificate as ca_file');
refused('expired', qr/certificate has expired/, 'expired');
refused('other', qr/target host name '127.0.0.1'/, 'of another host');
unlike(last_run($node, $db, 'other', 'error'), qr/ca_file/, 'of another host: ca_file would not help');
is(value($node, $db, "SELECT ok FROM pfa_test_source('at_good')"), 't', 'pfa_test_source: passes');
like(value($node, $db, "SELECT message FROM pfa_test_source('at_expired')"), qr/certificate has expired/,
	'pfa_test_source: says why not');

sim($sim{good}, 'stats?reset=1');
for my $file ("$dir/nowhere.pem", "$dir/good.key")
{
	$node->safe_psql($db, "ALTER SERVER at_good OPTIONS (SET ca_file '$file')");
	like(try('good'), qr/TLS: option ca_file: .*\Q$file\E/, "ca_file $file: the error names it");
}
$node->safe_psql($db, "ALTER SERVER at_good OPTIONS (SET ca_file '$dir/self.pem')");
like(try('good'), $unknown, 'another ca_file: nothing else is trusted');

# ---- an old protocol ----

my $port = PostgreSQL::Test::Cluster::get_free_port();
my $pid = fork();
if ($pid == 0)
{
	open STDIN, '<', '/dev/null';
	open STDOUT, '>', "$dir/s_server";
	open STDERR, '>&', \*STDOUT;
	exec 'openssl', 's_server', '-tls1_1', '-cipher', 'ALL:@SECLEVEL=0', '-accept', "127.0.0.1:$port",
	  '-cert', "$dir/good.pem", '-key', "$dir/good.key", '-www';
}
for (1 .. 200)
{
	last if system("curl -sk --max-time 2 --tls-max 1.1 --ciphers ALL:\@SECLEVEL=0 -o /dev/null https://127.0.0.1:$port/") == 0;
	usleep(50_000);
}
$node->safe_psql($db, "SET client_min_messages = error;
	CREATE SERVER old FOREIGN DATA WRAPPER pfa_pems OPTIONS (base_url 'https://127.0.0.1:$port', verify_tls 'off');
	CREATE USER MAPPING FOR CURRENT_USER SERVER old OPTIONS (username 'api', password 'secret')");
is(system("curl -sk --tls-max 1.1 --ciphers ALL:\@SECLEVEL=0 -o /dev/null https://127.0.0.1:$port/"), 0,
	'a server of TLS 1.1 answers others');
like(value($node, $db, "SELECT message FROM pfa_test_source('old')"), qr/^TLS: .*protocol/, 'TLS 1.1 is refused');
kill 'TERM', $pid;
waitpid $pid, 0;

# ---- without verification ----

for my $name (qw(self expired other))
{
	my ($rc, $out, $err) = $node->psql($db, "ALTER SERVER at_$name OPTIONS (DROP ca_file, ADD verify_tls 'off')");
	like($err, qr/WARNING:  without verify_tls, anyone in between.*HINT:  Use option "ca_file"/s,
		"verify_tls off: a WARNING for $name");
	completes($name, "verify_tls off, $name");
}
ok(wait_for($node, $db, "SELECT string_agg(organization_id || ' ' || state, ', ' ORDER BY organization_id)
		FROM pfa_alerts WHERE alert = 'PfaTlsNotVerified'", 30, 'expired firing, other firing, self firing'),
	'verify_tls off: an alert stands');
is(value($node, $db, "SELECT pfa_health()->>'status'"), 'degraded', 'verify_tls off: health is degraded');
$node->safe_psql($db, "ALTER SERVER at_$_ OPTIONS (DROP verify_tls)") for qw(self expired other);
ok(wait_for($node, $db, "SELECT count(*) FROM pfa_alerts WHERE alert = 'PfaTlsNotVerified'", 30, '0'),
	'verified again: the alert ends');
like(try('self'), $unknown, 'verified again: refused again');

$node->stop;
done_testing();
