/*
 * key.c
 *	  How keys are written, read and matched.
 */
#include "postgres.h"

#include "cache/cache.h"

/* ---- names within keys ---- */

/* What separates the parts of keys, and what patterns or people stumble over. */
static bool
is_plain(unsigned char c)
{
	return c > 0x20 && c != 0x7f && strchr(":%*?[]\\", c) == NULL;
}

void
pfa_cache_key_name(StringInfo key, const char *name)
{
	for (const unsigned char *p = (const unsigned char *) name; *p != '\0'; p++)
	{
		if (is_plain(*p))
			appendStringInfoCharMacro(key, *p);
		else
			appendStringInfo(key, "%%%02X", *p);
	}
}

static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

char *
pfa_cache_key_parse(const char **key)
{
	const char *p = *key;
	char *name = palloc(strlen(p) + 1);
	char *to = name;

	for (; *p != '\0' && *p != ':'; p++)
	{
		int high = p[0] == '%' ? hex_digit(p[1]) : -1;
		int low = high >= 0 ? hex_digit(p[2]) : -1;

		if (low >= 0 && high * 16 + low != 0)
		{
			*to++ = (char) (high * 16 + low);
			p += 2;
		}
		else
			*to++ = *p;
	}
	*to = '\0';
	*key = p;
	return name;
}

/* ---- patterns ---- */

/*
 * Match one character against the pattern at *pattern, which is not at its end,
 * and move on behind what it took of the pattern.
 */
static bool
match_set(const char **pattern, const char *end, unsigned char c)
{
	const char *p = *pattern + 1;
	bool negated = p < end && *p == '^';
	bool found = false;

	if (negated)
		p++;
	while (p < end && *p != ']')
	{
		unsigned char low;
		unsigned char high;

		if (*p == '\\' && p + 1 < end)
			p++;
		low = high = (unsigned char) *p++;
		if (p + 1 < end && *p == '-' && p[1] != ']')
		{
			high = (unsigned char) p[1];
			p += 2;
		}
		if (c >= Min(low, high) && c <= Max(low, high))
			found = true;
	}
	*pattern = p < end ? p + 1 : p;
	return found != negated;
}

static bool
match_one(const char **pattern, const char *end, unsigned char c)
{
	const char *p = *pattern;

	if (*p == '?')
	{
		*pattern = p + 1;
		return true;
	}
	if (*p == '[')
		return match_set(pattern, end, c);
	if (*p == '\\' && p + 1 < end)
		p++;
	*pattern = p + 1;
	return (unsigned char) *p == c;
}

/* Only the last star seen is ever tried again, so the cost is bounded. */
bool
pfa_cache_glob(const char *pattern, int pattern_len, const char *key,
			   int key_len)
{
	const char *end = pattern + pattern_len;
	const char *key_end = key + key_len;
	const char *star = NULL;
	const char *retry = NULL;

	while (key < key_end)
	{
		if (pattern < end && *pattern == '*')
		{
			star = ++pattern;
			retry = key;
			continue;
		}
		if (pattern < end && match_one(&pattern, end, (unsigned char) *key))
		{
			key++;
			continue;
		}
		if (star == NULL)
			return false;
		pattern = star;
		key = ++retry;
	}
	while (pattern < end && *pattern == '*')
		pattern++;
	return pattern == end;
}
