/*
 * redis_url.c
 *	  Parse pfa_vanguard.redis_url.
 *
 * Settings are checked in processes that must not fail and while nothing may
 * be allocated, so everything goes into buffers of one size.
 */
#include "postgres.h"

#include <ctype.h>

#include "cache/redis_url.h"

#define DEFAULT_PORT 6379

static int
hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = pg_tolower((unsigned char) c);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Copy len bytes, %XX decoded; false where they do not fit or are no text. */
static bool
decode(char *to, const char *from, size_t len)
{
	size_t n = 0;

	for (size_t i = 0; i < len; i++)
	{
		char c = from[i];

		if (c == '%' && i + 2 < len && hex(from[i + 1]) >= 0 &&
			hex(from[i + 2]) >= 0)
		{
			c = (char) (hex(from[i + 1]) * 16 + hex(from[i + 2]));
			i += 2;
		}
		if (c == '\0' || n + 1 >= PFA_REDIS_ADDRESS_LEN)
			return false;
		to[n++] = c;
	}
	to[n] = '\0';
	return true;
}

static bool
number(const char *text, size_t len, int max, int *value)
{
	int64 n = 0;

	if (len == 0 || len > 6)
		return false;
	for (size_t i = 0; i < len; i++)
	{
		if (!isdigit((unsigned char) text[i]))
			return false;
		n = n * 10 + (text[i] - '0');
	}
	*value = (int) n;
	return n <= max;
}

/* user[:password]@; *text moves on behind it. */
static bool
parse_user(const char **text, size_t len, PfaRedisUrl *url)
{
	const char *at = NULL;
	const char *colon;

	for (size_t i = 0; i < len; i++)
	{
		if ((*text)[i] == '@')
			at = *text + i;
	}
	if (at == NULL)
		return true;
	colon = memchr(*text, ':', at - *text);
	if (!decode(url->user, *text, (colon == NULL ? at : colon) - *text) ||
		(colon != NULL && !decode(url->password, colon + 1, at - colon - 1)))
		return false;
	*text = at + 1;
	return true;
}

/* host[:port], the host in brackets if it is an IPv6 address. */
static bool
parse_host(const char *text, size_t len, PfaRedisUrl *url)
{
	const char *end = text + len;
	const char *colon;

	if (len > 0 && text[0] == '[')
	{
		const char *bracket = memchr(text, ']', len);

		if (bracket == NULL ||
			!decode(url->address, text + 1, bracket - text - 1))
			return false;
		colon = bracket + 1;
	}
	else
	{
		colon = memchr(text, ':', len);
		if (colon == NULL)
			colon = end;
		if (!decode(url->address, text, colon - text))
			return false;
	}
	if (url->address[0] == '\0')
		return false;
	if (colon == end)
		return true;
	return *colon == ':' &&
		number(colon + 1, end - colon - 1, 65535, &url->port);
}

static bool
parse_redis(const char *text, PfaRedisUrl *url, const char **reason)
{
	size_t len = strcspn(text, "/?#");
	const char *rest = text + len;

	*reason = "Its user or password is too long.";
	if (!parse_user(&text, len, url))
		return false;
	*reason =
		"It must read redis://user:password@host:port/database, where user, password, port and database may be left out.";
	if (!parse_host(text, rest - text, url))
		return false;
	if (rest[0] == '\0' || strcmp(rest, "/") == 0)
		return true;
	return rest[0] == '/' &&
		number(rest + 1, strlen(rest + 1), 65535, &url->database);
}

static bool
parse_socket(const char *text, PfaRedisUrl *url, const char **reason)
{
	const char *query = strchr(text, '?');
	const char *slash = strchr(text, '/');
	const char *end = query == NULL ? text + strlen(text) : query;

	*reason =
		"A socket must read /path, or unix://user:password@/path?db=database, where user, password and database may be left out.";
	url->is_socket = true;
	if (slash == NULL || slash >= end ||
		!parse_user(&text, slash - text, url) || text != slash ||
		!decode(url->address, slash, end - slash))
		return false;
	return query == NULL ||
		(strncmp(query, "?db=", 4) == 0 &&
		 number(query + 4, strlen(query + 4), 65535, &url->database));
}

bool
pfa_redis_url_parse(const char *text, PfaRedisUrl *url, const char **reason)
{
	memset(url, 0, sizeof(*url));
	url->port = DEFAULT_PORT;
	if (strncmp(text, "redis://", 8) == 0)
		return parse_redis(text + 8, url, reason);
	if (strncmp(text, "unix://", 7) == 0)
		return parse_socket(text + 7, url, reason);
	if (text[0] == '/')
		return parse_socket(text, url, reason);
	if (strncmp(text, "rediss://", 9) == 0)
		*reason =
			"TLS takes a hiredis with TLS, from 1.0 on; this pfa_vanguard was built without.";
	else
		*reason = "It must begin with redis://, unix:// or /.";
	return false;
}
