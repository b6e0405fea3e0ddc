/*
 * json.c
 *	  A small JSON reader for request bodies.  Strict enough to notice a
 *	  client's mistakes; nesting is limited.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "sim.h"

#define MAX_DEPTH 64

static SimJson *parse_value(const char **p, int depth);

static void
skip_space(const char **p)
{
	while (**p == ' ' || **p == '\t' || **p == '\n' || **p == '\r')
		(*p)++;
}

static int
hex4(const char *s)
{
	int value = 0;
	int i;

	for (i = 0; i < 4; i++)
	{
		int c = s[i] | 0x20;

		if (s[i] >= '0' && s[i] <= '9')
			value = value * 16 + (s[i] - '0');
		else if (c >= 'a' && c <= 'f')
			value = value * 16 + (c - 'a' + 10);
		else
			return -1;
	}
	return value;
}

static void
add_utf8(SimBuf *buf, uint32_t code)
{
	char out[4];
	int len;

	if (code < 0x80)
	{
		out[0] = (char) code;
		len = 1;
	}
	else if (code < 0x800)
	{
		out[0] = (char) (0xc0 | code >> 6);
		out[1] = (char) (0x80 | (code & 0x3f));
		len = 2;
	}
	else if (code < 0x10000)
	{
		out[0] = (char) (0xe0 | code >> 12);
		out[1] = (char) (0x80 | (code >> 6 & 0x3f));
		out[2] = (char) (0x80 | (code & 0x3f));
		len = 3;
	}
	else
	{
		out[0] = (char) (0xf0 | code >> 18);
		out[1] = (char) (0x80 | (code >> 12 & 0x3f));
		out[2] = (char) (0x80 | (code >> 6 & 0x3f));
		out[3] = (char) (0x80 | (code & 0x3f));
		len = 4;
	}
	sim_buf_add(buf, out, len);
}

/* After a backslash; false where the escape is wrong. */
static bool
parse_escape(const char **p, SimBuf *buf)
{
	static const char named[] = "\"\"\\\\//n\nt\tr\rb\bf\f";
	const char *hit;
	int high;
	int low;

	if (**p == 'u')
	{
		high = hex4(*p + 1);
		if (high <= 0)
			return false;
		*p += 5;
		if (high >= 0xd800 && high < 0xdc00)
		{
			if ((*p)[0] != '\\' || (*p)[1] != 'u')
				return false;
			low = hex4(*p + 2);
			if (low < 0xdc00 || low > 0xdfff)
				return false;
			*p += 6;
			high = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
		}
		add_utf8(buf, (uint32_t) high);
		return true;
	}
	for (hit = named; *hit; hit += 2)
		if (*hit == **p)
		{
			sim_buf_add(buf, hit + 1, 1);
			(*p)++;
			return true;
		}
	return false;
}

static char *
parse_string(const char **p)
{
	SimBuf buf = {0};

	sim_buf_reserve(&buf, 16);
	buf.data[0] = '\0';
	(*p)++;
	while (**p != '"')
	{
		bool good = (unsigned char) **p >= 0x20;

		if (good && **p == '\\')
		{
			(*p)++;
			good = parse_escape(p, &buf);
		}
		else if (good)
			sim_buf_add(&buf, (*p)++, 1);
		if (!good)
		{
			sim_buf_free(&buf);
			return NULL;
		}
	}
	(*p)++;
	return buf.data;
}

static SimJson *
fail(SimJson *json)
{
	sim_json_free(json);
	return NULL;
}

/* The elements of an array, or the members of an object. */
static SimJson *
parse_children(SimJson *json, const char **p, int depth)
{
	char end = json->type == SIM_JSON_ARRAY ? ']' : '}';
	SimJson **tail = &json->child;

	(*p)++;
	skip_space(p);
	while (**p != end)
	{
		char *key = NULL;

		if (tail != &json->child)
		{
			if (*(*p)++ != ',')
				return fail(json);
			skip_space(p);
		}
		if (json->type == SIM_JSON_OBJECT)
		{
			if (**p != '"' || (key = parse_string(p)) == NULL)
				return fail(json);
			skip_space(p);
			if (*(*p)++ != ':')
			{
				free(key);
				return fail(json);
			}
		}
		*tail = parse_value(p, depth + 1);
		if (*tail == NULL)
		{
			free(key);
			return fail(json);
		}
		(*tail)->key = key;
		tail = &(*tail)->next;
		skip_space(p);
	}
	(*p)++;
	return json;
}

static SimJson *
parse_value(const char **p, int depth)
{
	SimJson *json = sim_alloc(sizeof(SimJson));
	size_t len;

	skip_space(p);
	if (depth > MAX_DEPTH)
		return fail(json);
	if (**p == '{' || **p == '[')
	{
		json->type = **p == '{' ? SIM_JSON_OBJECT : SIM_JSON_ARRAY;
		return parse_children(json, p, depth);
	}
	if (**p == '"')
	{
		json->type = SIM_JSON_STRING;
		json->text = parse_string(p);
		return json->text ? json : fail(json);
	}
	if (strncmp(*p, "true", 4) == 0 || strncmp(*p, "false", 5) == 0)
	{
		json->type = SIM_JSON_BOOL;
		json->truth = **p == 't';
		json->text = strdup(json->truth ? "true" : "false");
		*p += json->truth ? 4 : 5;
		return json;
	}
	if (strncmp(*p, "null", 4) == 0)
	{
		*p += 4;
		return json;
	}
	len = strspn(*p, "+-0123456789.eE");
	if (len == 0)
		return fail(json);
	json->type = SIM_JSON_NUMBER;
	json->text = strndup(*p, len);
	*p += len;
	return json;
}

SimJson *
sim_json_parse(const char *text)
{
	SimJson *json;

	if (text == NULL)
		return NULL;
	json = parse_value(&text, 0);
	if (json == NULL)
		return NULL;
	skip_space(&text);
	return *text ? fail(json) : json;
}

void
sim_json_free(SimJson *json)
{
	while (json)
	{
		SimJson *next = json->next;

		sim_json_free(json->child);
		free(json->key);
		free(json->text);
		free(json);
		json = next;
	}
}

const SimJson *
sim_json_get(const SimJson *json, const char *key)
{
	const SimJson *member;

	if (json == NULL || json->type != SIM_JSON_OBJECT)
		return NULL;
	for (member = json->child; member; member = member->next)
		if (strcmp(member->key, key) == 0)
			return member;
	return NULL;
}

const char *
sim_json_text(const SimJson *json, const char *key)
{
	const SimJson *member = sim_json_get(json, key);

	return member ? member->text : NULL;
}

int64_t
sim_json_int(const SimJson *json, const char *key, int64_t missing)
{
	const char *text = sim_json_text(json, key);

	return text && *text ? strtoll(text, NULL, 10) : missing;
}
