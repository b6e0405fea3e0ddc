/*
 * buffer.c
 *	  Growable text, memory that is never freed, random numbers.
 */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "sim.h"

void *
sim_alloc(size_t size)
{
	void *ptr = calloc(1, size ? size : 1);

	if (ptr == NULL)
	{
		fprintf(stderr, "pems_sim: out of memory\n");
		exit(1);
	}
	return ptr;
}

void *
sim_realloc(void *ptr, size_t size)
{
	ptr = realloc(ptr, size ? size : 1);
	if (ptr == NULL)
	{
		fprintf(stderr, "pems_sim: out of memory\n");
		exit(1);
	}
	return ptr;
}

/*
 * Texts of records live as long as the program: blocks share them, and the
 * few that a test's changes leave behind do not matter.  Each thread has its
 * own chunk, so that start-up can use all cores.
 */
const char *
sim_keep(const char *text, size_t len)
{
	static _Thread_local char *chunk;
	static _Thread_local size_t left;
	char *kept;

	if (len == 0)
		return "";
	if (len + 1 > left)
	{
		left = len + 1 > 65536 ? len + 1 : 1 << 20;
		chunk = sim_realloc(NULL, left);
	}
	kept = chunk;
	memcpy(kept, text, len);
	kept[len] = '\0';
	chunk += len + 1;
	left -= len + 1;
	return kept;
}

void
sim_buf_reserve(SimBuf *buf, size_t more)
{
	if (buf->len + more + 1 <= buf->size)
		return;
	buf->size = (buf->len + more + 1) * 2;
	buf->data = sim_realloc(buf->data, buf->size);
}

void
sim_buf_add(SimBuf *buf, const char *data, size_t len)
{
	sim_buf_reserve(buf, len);
	memcpy(buf->data + buf->len, data, len);
	buf->len += len;
	buf->data[buf->len] = '\0';
}

void
sim_buf_puts(SimBuf *buf, const char *text)
{
	sim_buf_add(buf, text, strlen(text));
}

void
sim_buf_printf(SimBuf *buf, const char *format, ...)
{
	va_list args;
	int len;

	va_start(args, format);
	len = vsnprintf(NULL, 0, format, args);
	va_end(args);
	sim_buf_reserve(buf, len + 1);
	va_start(args, format);
	vsnprintf(buf->data + buf->len, len + 1, format, args);
	va_end(args);
	buf->len += len;
}

/* Decode one UTF-8 sequence of valid text. */
static uint32_t
next_code(const unsigned char **p)
{
	const unsigned char *s = *p;
	uint32_t code;

	if (s[0] < 0xe0)
	{
		code = (s[0] & 0x1fu) << 6 | (s[1] & 0x3fu);
		*p = s + 2;
	}
	else if (s[0] < 0xf0)
	{
		code = (s[0] & 0x0fu) << 12 | (s[1] & 0x3fu) << 6 | (s[2] & 0x3fu);
		*p = s + 3;
	}
	else
	{
		code = (s[0] & 0x07u) << 18 | (s[1] & 0x3fu) << 12 |
			(s[2] & 0x3fu) << 6 | (s[3] & 0x3fu);
		*p = s + 4;
	}
	return code;
}

static void
add_escaped_code(SimBuf *buf, uint32_t code)
{
	if (code < 0x10000)
		sim_buf_printf(buf, "\\u%04X", code);
	else
		sim_buf_printf(buf, "\\u%04x\\u%04x", 0xd800 + ((code - 0x10000) >> 10),
					   0xdc00 + ((code - 0x10000) & 0x3ff));
}

/*
 * Add text as a JSON string.  escape_all spells everything beyond ASCII, and
 * the slash, as escapes: the same value, written the other way.
 */
void
sim_buf_json(SimBuf *buf, const char *text, bool escape_all)
{
	const unsigned char *p = (const unsigned char *) text;
	const unsigned char *plain = p;
	static const char named[] = "\"\"\\\\\nn\tt\rr\bb\ff";

	sim_buf_add(buf, "\"", 1);
	while (*p)
	{
		const char *hit;

		if (*p >= 0x20 && *p != '"' && *p != '\\' &&
			!(escape_all && (*p >= 0x80 || *p == '/')))
		{
			p++;
			continue;
		}
		sim_buf_add(buf, (const char *) plain, p - plain);
		for (hit = named; *hit && *hit != (char) *p; hit += 2)
			;
		if (*hit)
		{
			char escape[2] = {'\\', hit[1]};

			sim_buf_add(buf, escape, 2);
			p++;
		}
		else if (*p == '/')
		{
			sim_buf_add(buf, "\\/", 2);
			p++;
		}
		else if (*p < 0x80)
			add_escaped_code(buf, *p++);
		else
			add_escaped_code(buf, next_code(&p));
		plain = p;
	}
	sim_buf_add(buf, (const char *) plain, p - plain);
	sim_buf_add(buf, "\"", 1);
}

void
sim_buf_free(SimBuf *buf)
{
	free(buf->data);
	memset(buf, 0, sizeof(*buf));
}

double
sim_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec + now.tv_nsec / 1e9;
}

uint64_t
sim_random(uint64_t *state)
{
	uint64_t z = (*state += 0x9e3779b97f4a7c15u);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

/* FNV-1a, stirred. */
uint64_t
sim_hash(const char *text, uint64_t seed)
{
	uint64_t hash = 0xcbf29ce484222325u ^ seed;

	for (; *text; text++)
		hash = (hash ^ (unsigned char) *text) * 0x100000001b3u;
	return sim_random(&hash);
}
