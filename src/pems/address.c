/*
 * address.c
 *	  Which hosts and addresses may be talked to.
 *
 * A name is only a claim: what it resolves to is known when libcurl connects,
 * and may differ from one second to the next.  So the class that counts is
 * that of the socket address about to be connected to, and the checks on host
 * names serve to refuse early and to say why.
 *
 * IPv6 forms that carry an IPv4 address (mapped, compatible, NAT64, 6to4) are
 * judged by the address inside, or each would be a way around the rules.
 */
#include "postgres.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <netinet/in.h>

#include "pems/address.h"

typedef struct Net4
{
	uint32 net;
	int bits;
	PfaAddressClass class;
} Net4;

typedef struct Net6
{
	uint8 net[16];
	int bits;
	PfaAddressClass class;
} Net6;

#define IP4(a, b, c, d) \
	(((uint32) (a) << 24) | ((uint32) (b) << 16) | ((uint32) (c) << 8) | (d))

/* First match wins: single addresses stand before the nets around them. */
static const Net4 nets4[] =
	{{IP4(100, 100, 100, 200), 32, PFA_ADDRESS_FORBIDDEN}, /* metadata */
	 {IP4(168, 63, 129, 16), 32, PFA_ADDRESS_FORBIDDEN},   /* metadata */
	 {IP4(192, 0, 0, 192), 32, PFA_ADDRESS_FORBIDDEN},     /* metadata */
	 {IP4(0, 0, 0, 0), 8, PFA_ADDRESS_FORBIDDEN},          /* unspecified */
	 {IP4(169, 254, 0, 0), 16, PFA_ADDRESS_FORBIDDEN},     /* link-local */
	 {IP4(224, 0, 0, 0), 4, PFA_ADDRESS_FORBIDDEN},        /* multicast */
	 {IP4(240, 0, 0, 0), 4, PFA_ADDRESS_FORBIDDEN}, /* reserved, broadcast */
	 {IP4(127, 0, 0, 0), 8, PFA_ADDRESS_LOOPBACK},
	 {IP4(10, 0, 0, 0), 8, PFA_ADDRESS_PRIVATE},
	 {IP4(172, 16, 0, 0), 12, PFA_ADDRESS_PRIVATE},
	 {IP4(192, 168, 0, 0), 16, PFA_ADDRESS_PRIVATE},
	 {IP4(100, 64, 0, 0), 10, PFA_ADDRESS_PRIVATE},
	 {IP4(192, 0, 0, 0), 24, PFA_ADDRESS_PRIVATE},
	 {IP4(198, 18, 0, 0), 15, PFA_ADDRESS_PRIVATE}};

static const Net6 nets6[] = {
	{{0xfd, 0x00, 0x0e, 0xc2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x02, 0x54},
	 128,
	 PFA_ADDRESS_FORBIDDEN}, /* metadata */
	{{0xfd, 0x20, 0x00, 0xce, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x02, 0x54},
	 128,
	 PFA_ADDRESS_FORBIDDEN},                   /* metadata */
	{{0xfe, 0x80}, 10, PFA_ADDRESS_FORBIDDEN}, /* link-local */
	{{0xff}, 8, PFA_ADDRESS_FORBIDDEN},        /* multicast */
	{{0xfc}, 7, PFA_ADDRESS_PRIVATE},          /* unique local */
	{{0xfe, 0xc0}, 10, PFA_ADDRESS_PRIVATE},   /* site-local, deprecated */
	{{0x00, 0x64, 0xff, 0x9b, 0x00, 0x01},
	 48,
	 PFA_ADDRESS_PRIVATE},                    /* local NAT64 */
	{{0x01, 0x00}, 64, PFA_ADDRESS_FORBIDDEN} /* discard */
};

/* Where an IPv6 prefix has an IPv4 address behind it. */
static const struct
{
	uint8 net[16];
	int bits;
	int at;
} carriers[] = {
	{{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff}, 96, 12}, /* mapped */
	{{0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff}, 96, 12},       /* translated */
	{{0x00, 0x64, 0xff, 0x9b}, 96, 12},                   /* NAT64 */
	{{0x20, 0x02}, 16, 2},                                /* 6to4 */
	{{0}, 96, 12} /* compatible; "::" and "::1" come before */
};

static bool
prefix_matches(const uint8 *address, const uint8 *net, int bits)
{
	int bytes = bits / 8;
	int rest = bits % 8;

	if (memcmp(address, net, bytes) != 0)
		return false;
	return rest == 0 ||
		((address[bytes] ^ net[bytes]) & (0xff << (8 - rest)) & 0xff) == 0;
}

static PfaAddressClass
classify4(uint32 address)
{
	for (int i = 0; i < (int) lengthof(nets4); i++)
	{
		uint32 mask = 0xffffffffU << (32 - nets4[i].bits);

		if ((address & mask) == nets4[i].net)
			return nets4[i].class;
	}
	return PFA_ADDRESS_PUBLIC;
}

static PfaAddressClass
classify6(const uint8 *a)
{
	static const uint8 zero[16];

	if (memcmp(a, zero, 15) == 0 && a[15] <= 1)
		return a[15] == 1 ? PFA_ADDRESS_LOOPBACK : PFA_ADDRESS_FORBIDDEN;

	for (int i = 0; i < (int) lengthof(carriers); i++)
	{
		const uint8 *v4 = a + carriers[i].at;

		if (prefix_matches(a, carriers[i].net, carriers[i].bits))
			return classify4(IP4(v4[0], v4[1], v4[2], v4[3]));
	}
	for (int i = 0; i < (int) lengthof(nets6); i++)
	{
		if (prefix_matches(a, nets6[i].net, nets6[i].bits))
			return nets6[i].class;
	}
	return PFA_ADDRESS_PUBLIC;
}

PfaAddressClass
pfa_address_classify(const struct sockaddr *address)
{
	if (address->sa_family == AF_INET)
	{
		const struct sockaddr_in *in = (const struct sockaddr_in *) address;

		return classify4(ntohl(in->sin_addr.s_addr));
	}
	if (address->sa_family == AF_INET6)
	{
		const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *) address;

		return classify6(in6->sin6_addr.s6_addr);
	}
	return PFA_ADDRESS_FORBIDDEN;
}

PfaAddressClass
pfa_host_classify(const char *host)
{
	struct in_addr in;
	struct in6_addr in6;

	if (inet_pton(AF_INET, host, &in) == 1)
		return classify4(ntohl(in.s_addr));
	if (inet_pton(AF_INET6, host, &in6) == 1)
		return classify6(in6.s6_addr);
	return PFA_ADDRESS_PUBLIC;
}

bool
pfa_host_is_loopback(const char *host)
{
	return pg_strcasecmp(host, "localhost") == 0 ||
		pfa_host_classify(host) == PFA_ADDRESS_LOOPBACK;
}

/*
 * A host as it may stand in a URL: a DNS name, or an address in its usual
 * spelling.  Resolvers also take 2130706433, 0x7f.1 or 127.1 for an address;
 * nobody needs these but to get past a filter.
 */
static bool
host_is_plain(const char *host)
{
	const char *last;
	struct in_addr in;

	if (host[0] == '\0' || host[0] == '.' || host[0] == '-')
		return false;
	for (const char *p = host; *p != '\0'; p++)
	{
		if (!((*p >= 'a' && *p <= 'z') || (*p >= '0' && *p <= '9') ||
			  *p == '-' || *p == '_' || *p == '.'))
			return false;
		if (*p == '.' && p[1] == '.')
			return false;
	}
	last = strrchr(host, '.');
	last = last == NULL ? host : last + 1;
	if (*last >= '0' && *last <= '9')
		return inet_pton(AF_INET, host, &in) == 1;
	return *last != '\0';
}

/* Digits up to the end or a slash, 1 to 65535; NULL if it is not a port. */
static const char *
parse_port(const char *text, int *port)
{
	int value = 0;
	const char *p;

	for (p = text; *p >= '0' && *p <= '9'; p++)
	{
		value = value * 10 + (*p - '0');
		if (value > 65535)
			return NULL;
	}
	*port = value;
	return p > text && value > 0 ? p : NULL;
}

bool
pfa_url_parse(const char *text, PfaUrl *url, const char **reason)
{
	const char *host;
	const char *end;
	const char *authority_end;
	struct in6_addr in6;

	memset(url, 0, sizeof(PfaUrl));
	for (const char *p = text; *p != '\0'; p++)
	{
		if (*p <= ' ' || *p > '~' || strchr("\\\"<>^`{|}", *p) != NULL)
		{
			*reason = "holds a character that a URL cannot have";
			return false;
		}
	}
	if (pg_strncasecmp(text, "https://", 8) == 0)
		url->https = true;
	else if (pg_strncasecmp(text, "http://", 7) != 0)
	{
		*reason = "must begin with https:// or http://";
		return false;
	}
	host = text + (url->https ? 8 : 7);
	authority_end = host + strcspn(host, "/?#");
	if (memchr(host, '@', authority_end - host) != NULL)
	{
		*reason = "must not hold a user name or password";
		return false;
	}
	if (strpbrk(authority_end, "?#") != NULL)
	{
		*reason = "must not hold a query or fragment";
		return false;
	}

	url->ipv6 = *host == '[';
	if (url->ipv6)
	{
		host++;
		end = memchr(host, ']', authority_end - host);
	}
	else
		end = host + strcspn(host, ":/");
	*reason =
		"must name a host: a DNS name, an IPv4 address, or an IPv6 address in brackets";
	if (end == NULL || end - host >= PFA_HOST_LEN)
		return false;
	for (int i = 0; i < end - host; i++)
		url->host[i] = pg_ascii_tolower((unsigned char) host[i]);
	if (url->ipv6 ? inet_pton(AF_INET6, url->host, &in6) != 1 :
					!host_is_plain(url->host))
		return false;
	if (url->ipv6)
	{
		/* one spelling, or lists and origins would not compare */
		inet_ntop(AF_INET6, &in6, url->host, sizeof(url->host));
		end++;
	}

	url->port = url->https ? 443 : 80;
	if (*end == ':')
		end = parse_port(end + 1, &url->port);
	if (end != authority_end)
	{
		*reason = "must have a port from 1 to 65535, if any";
		return false;
	}
	url->path = authority_end;
	return true;
}

char *
pfa_url_origin(const PfaUrl *url)
{
	return psprintf(url->ipv6 ? "%s://[%s]:%d" : "%s://%s:%d",
					url->https ? "https" : "http", url->host, url->port);
}

/* Does one entry (host, host:port, [v6], [v6]:port or bare v6) name it? */
static bool
entry_matches(const char *entry, const PfaUrl *url)
{
	char host[PFA_HOST_LEN];
	struct in6_addr a;
	struct in6_addr b;
	const char *end;
	int port;

	if (inet_pton(AF_INET6, entry, &a) == 1)
		end = entry + strlen(entry);
	else if (*entry == '[')
	{
		end = strchr(++entry, ']');
		if (end == NULL)
			return false;
	}
	else
		end = entry + strcspn(entry, ":");
	if (end - entry >= PFA_HOST_LEN)
		return false;
	memcpy(host, entry, end - entry);
	host[end - entry] = '\0';
	if (*end == ']')
		end++;
	if (*end == ':')
	{
		end = parse_port(end + 1, &port);
		if (end == NULL || port != url->port)
			return false;
	}
	if (*end != '\0')
		return false;
	if (url->ipv6)
		return inet_pton(AF_INET6, host, &a) == 1 &&
			inet_pton(AF_INET6, url->host, &b) == 1 &&
			memcmp(&a, &b, sizeof(a)) == 0;
	return pg_strcasecmp(host, url->host) == 0;
}

bool
pfa_host_in_list(const char *list, const PfaUrl *url)
{
	char entry[PFA_HOST_LEN + 16];

	while (list != NULL && *list != '\0')
	{
		const char *end;
		const char *next;

		while (*list == ' ' || *list == ',')
			list++;
		next = list + strcspn(list, ",");
		end = next;
		while (end > list && isspace((unsigned char) end[-1]))
			end--;
		if (end > list && end - list < (int) sizeof(entry))
		{
			memcpy(entry, list, end - list);
			entry[end - list] = '\0';
			if (entry_matches(entry, url))
				return true;
		}
		list = next;
	}
	return false;
}
