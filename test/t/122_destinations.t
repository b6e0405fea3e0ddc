# Where requests and credentials go, and where they never do (H12, H13):
#  - proxies of the environment and .netrc are ignored; the server option proxy
#    is used, does not see the credentials, and its refusals are reported
#  - a redirect is reported and not followed, nor is its URL repeated
#  - addresses that are link-local, metadata, multicast or unspecified are
#    refused in every spelling, and behind every name, at each connection
#  - a server of a role without superuser rights reaches allowed_hosts only, and
#    credentials stay with the origin that they were given for
use strict;
use warnings;
use IO::Select;
use IO::Socket::INET;
use POSIX ();
use PfaTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $db = 'postgres';
my $dir = PostgreSQL::Test::Utils::tempdir();
my $shim = preload_shim('resolver');
plan skip_all => 'needs a C compiler' unless defined $shim;

# ---- a proxy that keeps what it is asked ----

sub pump
{
	my ($client, $server) = @_;
	my $select = IO::Select->new($client, $server);
	while (1)
	{
		for my $from ($select->can_read)
		{
			my $n = sysread $from, my $data, 65536;
			return unless $n;
			syswrite $from == $client ? $server : $client, $data;
		}
	}
}

sub serve
{
	my ($client) = @_;
	my $head = '';

	until ($head =~ /\r\n\r\n/)
	{
		last unless sysread $client, $head, 4096, length $head;
	}
	append_to_file("$dir/proxy.log", "$head\n");
	my $server = $head =~ /^CONNECT [^ ]*:(\d+) / && !-e "$dir/proxy.refuses"
	  ? IO::Socket::INET->new(PeerAddr => "127.0.0.1:$1") : undef;
	syswrite $client, $server ? "HTTP/1.1 200 OK\r\n\r\n" : "HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n";
	pump($client, $server) if $server;
}

my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 20) or die "listen: $!";
my $proxy_port = $listener->sockport;
my $proxy_pid = fork();
if ($proxy_pid == 0)
{
	# whoever reads our output must not wait for this process
	open STDOUT, '>', '/dev/null';
	open STDERR, '>', '/dev/null';
	$SIG{CHLD} = 'IGNORE';
	while (my $client = $listener->accept)
	{
		next if fork();
		serve($client);
		POSIX::_exit(0);
	}
	POSIX::_exit(0);
}
$listener->close;

END
{
	local $?;
	kill 'TERM', $proxy_pid if $proxy_pid;
	waitpid $proxy_pid, 0 if $proxy_pid;
}

# What it was asked since the last call.
sub proxied
{
	my $log = -e "$dir/proxy.log" ? slurp_file("$dir/proxy.log") : '';
	unlink "$dir/proxy.log";
	return $log;
}

# ---- a server in a hostile environment ----

certificate($dir, 'ca');
certificate($dir, 'pems', names => 'DNS:pems.test', issuer => 'ca');
my $sim = simulator('--orgs', 'RIO:100', '--seed', '122', '--tls-cert', "$dir/pems.pem",
	'--tls-key', "$dir/pems.key");
my $plain = simulator('--orgs', 'RIO:100', '--seed', '122');
my $other = simulator('--orgs', 'RIO:100', '--seed', '122');

sub resolve
{
	my ($address) = @_;
	unlink "$dir/hosts";
	append_to_file("$dir/hosts", "pems.test $address\n");
}

resolve('127.0.0.1');
append_to_file("$dir/.netrc", "machine pems.test login nobody password wrong\ndefault login nobody password wrong\n");
chmod 0600, "$dir/.netrc";
my $node = new_server('main');
$node->stop;
{
	local %ENV = %ENV;
	$ENV{LD_PRELOAD} = $shim;
	$ENV{PFA_HOSTS} = "$dir/hosts";
	$ENV{HOME} = $dir;
	$ENV{$_} = "http://127.0.0.1:$proxy_port" for qw(http_proxy https_proxy HTTPS_PROXY all_proxy ALL_PROXY);
	$node->start;
}
my $url = "https://pems.test:$sim->{port}";
add_source($node, $db, { url => $url }, 'pems', "ca_file '$dir/ca.pem', connect_timeout '2', timeout '5'");
$node->safe_psql($db, "SELECT pfa_add_organization('RIO', 'pems', sync_interval => '7 days')");
ok(synced($node, $db), 'a first sync');
is(proxied(), '', 'proxies of the environment are ignored');
compare($node, $db, $sim, 'RIO', 'without the environment');
# curl, which compare runs in the server, has used it
like(proxied(), qr/User-Agent: curl/, 'which others use');

# Sync again; the error, '' where there is none.
sub try
{
	return run_sync($node, $db, 'RIO', 'full') eq 'completed' ? '' : last_run($node, $db, 'RIO', 'error');
}

sub set_option
{
	my ($option) = @_;
	$node->safe_psql($db, "ALTER SERVER pems OPTIONS ($option)");
}

# ---- the proxy of the server ----

set_option("ADD proxy 'http://127.0.0.1:$proxy_port'");
resolve('hang');
is(try(), '', 'through the proxy, which looks up the name');
my $asked = proxied();
like($asked, qr/^CONNECT pems\.test:$sim->{port} HTTP/, 'the proxy was asked for a tunnel');
unlike($asked, qr/authorization|tenant|Basic/i, 'and saw no credentials');
set_option("ADD max_retries '0'");
append_to_file("$dir/proxy.refuses", '');
like(try(), qr/the proxy refused the connection \(HTTP 407\)/, 'a proxy that refuses');
set_option("SET proxy 'http://127.0.0.1:9'");
like(try(), qr/could not connect to the proxy: Connection refused/, 'a proxy that is not there');
set_option("SET proxy 'http://169.254.169.254:3128'");
like(try(), qr/address of host "pems\.test" is not allowed/, 'a proxy at a link-local address');
my ($rc, $out, $err) = $node->psql($db, "ALTER SERVER pems OPTIONS (SET proxy 'http://me:canary\@127.0.0.1:$proxy_port')");
like($err, qr/must not hold a user name or password/, 'a proxy with a password in its URL');
unlike($err, qr/must.*canary/, 'which is not repeated');
resolve('127.0.0.1');
set_option('DROP proxy, DROP max_retries');
# by itself, as the server has changed
ok(synced($node, $db), 'without a proxy again');

# ---- redirects ----

proxied();

for my $code (301, 302, 303, 307, 308)
{
	for my $target ("http://127.0.0.1:$proxy_port/there", "https://pems.test:$sim->{port}/there?n=1",
		"http://me:canary\@127.0.0.1:$proxy_port/")
	{
		my ($host) = $target =~ m{//([^:@]*)[:/]};
		(my $text = $target) =~ s/([^a-z0-9])/sprintf '%%%02x', ord $1/gie;
		my $before = scalar requests_of($sim);
		sim($sim, "fault?kind=redirect&code=$code&text=$text");
		my $error = try();
		like($error, $target =~ /@/ ? qr/redirect \(HTTP $code\), which is not followed/
			: qr/redirect \(HTTP $code\) to host "$host", which is not followed/, "$code to $target is reported");
		unlike($error, qr/canary|there/, "$code to $target: the URL is not repeated");
		is(requests_of($sim) - $before, 1, "$code to $target: one request, not tried again")
		  or diag sim($sim, 'log?n=3'), value($node, $db, 'TABLE pfa_sync_run');
		sim($sim, 'clear');
	}
}
is(proxied(), '', 'and nobody went there');

# ---- addresses ----

my @refused = (
  map({ "https://$_/" } qw(169.254.169.254 169.254.0.1 0.0.0.0 0.1.2.3 224.0.0.1 239.255.255.250
	255.255.255.255 240.0.0.1 100.100.100.200 168.63.129.16 192.0.0.192
	[::] [fe80::1] [febf::1] [ff02::1] [fd00:ec2::254] [fd20:ce::254] [100::1]
	[::ffff:169.254.169.254] [::ffff:a9fe:a9fe] [::169.254.169.254] [64:ff9b::a9fe:a9fe] [2002:a9fe:a9fe::1]
	[::ffff:0:169.254.169.254] [fe80::1%25eth0] [::1]evil
	2852039166 0xa9fea9fe 0xa9.0xfe.0xa9.0xfe 0251.0376.0251.0376 169.254.43518 169.16689662 0 127.1
	169.254.169.254. 1.2.3.4.5 pems.test@169.254.169.254 169.254.169.254:80@pems.test -pems.test .pems.test pems..test
	pems.test:0 pems.test:65536 pems.test:80x)),
  'https://169.254.169.254#@pems.test/', 'https://pems.test?@169.254.169.254/', 'https://169.254.169.254\@pems.test/',
  "https://pems.test\r\nX: 1/", 'https://pems .test/', "https://\x{c2}\x{b9}69.254.169.254/", 'https://', 'https:///etc/passwd',
  'http://pems.test/', 'http://10.0.0.1/', 'http://[::ffff:10.0.0.1]/', 'http://192.168.1.1/',
  map({ "$_://127.0.0.1/" } qw(ftp file gopher dict ldap smb telnet unix)), 'file:///etc/passwd', '//127.0.0.1/', '127.0.0.1');
my $statements = join '', map { (my $u = $_) =~ s/'/''/g; "ALTER SERVER pems OPTIONS (SET base_url '$u');\n" } @refused;
# one statement after the other, as the errors do not end the session
($rc, $out, $err) = $node->psql($db, $statements, on_error_stop => 0);
is(scalar(() = $err =~ /ERROR:  invalid value for option "base_url"/g), scalar @refused,
	scalar(@refused) . ' URLs are refused when they are set') or diag $err;
is(value($node, $db, "SELECT srvoptions[1] FROM pg_foreign_server WHERE srvname = 'pems'"), "base_url=$url", 'all of them');

my $before = scalar requests_of($sim);
# 0.0.0.0 and :: are this machine for connect()
for my $address (qw(169.254.169.254 0.0.0.0 224.0.0.1 255.255.255.255 100.100.100.200
	:: fe80::1 ff02::1 fd00:ec2::254 ::ffff:169.254.169.254 ::ffff:0.0.0.0 64:ff9b::a9fe:a9fe 2002:a9fe:a9fe::1))
{
	resolve($address);
	is(value($node, $db, "SELECT message FROM pfa_test_source('pems')"),
		'address of host "pems.test" is not allowed', "a name that stands for $address");
}
is(try(), 'could not read from PEMS: address of host "pems.test" is not allowed', 'nor does a sync go there');
is(last_run($node, $db, 'RIO', 'retries'), '0', 'or try it again');
is(requests_of($sim) - $before, 0, 'and nothing has arrived');
resolve('127.0.0.1');
is(try(), '', 'the name stands for PEMS again');

# ---- whose server ----

$node->safe_psql($db, "CREATE ROLE planner; GRANT USAGE ON FOREIGN DATA WRAPPER pfa_pems TO planner;
	SET client_min_messages = warning; SELECT pfa_grant_access('planner', 'operator');
	GRANT EXECUTE ON FUNCTION pfa_set_credentials, pfa_test_source TO planner; SET ROLE planner;
	CREATE SERVER mine FOREIGN DATA WRAPPER pfa_pems OPTIONS (base_url '$plain->{url}');
	SELECT pfa_set_credentials('mine', 'api', 'secret')");

# In the planner's name: the message, or the error.
sub planner
{
	my ($rc, $out, $err) = $node->psql($db, "SET ROLE planner; SELECT ok, message FROM pfa_test_source('mine')");
	return $rc == 0 ? $out : $err;
}

sub aim
{
	my ($sim) = @_;
	$node->safe_psql($db, "SET ROLE planner; ALTER SERVER mine OPTIONS (SET base_url '$sim->{url}')");
}

like(planner(), qr/host "127.0.0.1" of server "mine" is not allowed/, 'a host that nobody allowed');
setting($node, 'pfa_vanguard.allowed_hosts', "pems.test, 127.0.0.1:$other->{port}");
ok(wait_for($node, $db, "SHOW pfa_vanguard.allowed_hosts", 10, "pems.test, 127.0.0.1:$other->{port}"), 'allowed_hosts is set');
like(planner(), qr/host "127.0.0.1" of server "mine" is not allowed/, 'another port is allowed, not this one');
is(scalar(requests_of($plain)), 0, 'nothing was sent');
setting($node, 'pfa_vanguard.allowed_hosts', '127.0.0.1');
ok(wait_for($node, $db, "SHOW pfa_vanguard.allowed_hosts", 10, '127.0.0.1'), 'the host is allowed');
is(planner(), 't|', 'it is reached');
aim($other);
like(planner(), qr/credentials for server "mine" were given for http:\/\/127.0.0.1:$plain->{port}/,
	'aimed elsewhere, the credentials do not go there');
$node->safe_psql($db, "SELECT pfa_pause_organization('RIO')");
set_option("SET base_url '$other->{url}'");
$node->safe_psql($db, "SELECT pfa_resume_organization('RIO')");
like(try(), qr/credentials for server "pems" were given for \Q$url\E/, 'nor do they in a sync');
is(scalar(requests_of($other)), 0, 'nothing was sent there');
aim($plain);
is(planner(), 't|', 'aimed back, it is reached');

$node->stop;
done_testing();
