/*
 * json_text.c
 *	  JSON's strings and scalars, once they lie in memory as a whole.
 *
 * Only what is needed comes here: most strings have no escapes, most cells
 * are not mapped, and neither costs more than the search for its end.  So
 * nothing in this file is on the fast path but the check of UTF-8, which
 * takes ASCII by the word.
 */
#include "record/json_text.h"

#include <stdint.h>
#include <string.h>

static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return (c | 0x20) - 'a' + 10;
}

static uint32_t
hex_quad(const char *p)
{
	return (uint32_t) (hex_digit(p[0]) << 12 | hex_digit(p[1]) << 8 |
					   hex_digit(p[2]) << 4 | hex_digit(p[3]));
}

static char *
put_utf8(char *dst, uint32_t c)
{
	if (c < 0x80)
		*dst++ = (char) c;
	else if (c < 0x800)
	{
		*dst++ = (char) (0xc0 | c >> 6);
		*dst++ = (char) (0x80 | (c & 0x3f));
	}
	else if (c < 0x10000)
	{
		*dst++ = (char) (0xe0 | c >> 12);
		*dst++ = (char) (0x80 | (c >> 6 & 0x3f));
		*dst++ = (char) (0x80 | (c & 0x3f));
	}
	else
	{
		*dst++ = (char) (0xf0 | c >> 18);
		*dst++ = (char) (0x80 | (c >> 12 & 0x3f));
		*dst++ = (char) (0x80 | (c >> 6 & 0x3f));
		*dst++ = (char) (0x80 | (c & 0x3f));
	}
	return dst;
}

/* A \u escape at *src, which is left behind it (and behind its pair). */
static char *
unescape_code(const char **src, const char *end, char *dst, PfaJsonText *fault)
{
	uint32_t c = hex_quad(*src + 2);

	*src += 6;
	if (c >= 0xd800 && c <= 0xdbff && end - *src >= 6 && (*src)[0] == '\\' &&
		(*src)[1] == 'u')
	{
		uint32_t low = hex_quad(*src + 2);

		if (low >= 0xdc00 && low <= 0xdfff)
		{
			*src += 6;
			return put_utf8(dst,
							0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00));
		}
	}
	if (c >= 0xd800 && c <= 0xdfff)
	{
		*fault = PFA_JSON_TEXT_SURROGATE;
		c = 0xfffd;
	}
	if (c == 0)
	{
		*fault = PFA_JSON_TEXT_NUL;
		return dst;
	}
	return put_utf8(dst, c);
}

PfaJsonText
pfa_json_unescape(const char *src, size_t len, char *dst, size_t *dst_len)
{
	static const char from[] = "bfnrt";
	static const char to[] = "\b\f\n\r\t";
	const char *end = src + len;
	const char *found;
	char *start = dst;
	PfaJsonText fault = PFA_JSON_TEXT_OK;

	while (src < end)
	{
		if (*src != '\\' || end - src < 2)
			*dst++ = *src++;
		else if (src[1] == 'u' && end - src >= 6)
			dst = unescape_code(&src, end, dst, &fault);
		else
		{
			found = memchr(from, src[1], sizeof(from) - 1);
			*dst++ = found ? to[found - from] : src[1];
			src += 2;
		}
	}
	*dst_len = (size_t) (dst - start);
	return fault;
}

/*
 * Length of the character at p, 0 if it is not one: overlong forms,
 * surrogates, codes past U+10FFFF and NUL are none.
 */
static size_t
utf8_length(const unsigned char *p, size_t left)
{
	size_t n;
	size_t i;

	if (p[0] < 0x80)
		return p[0] != 0;
	if (p[0] < 0xc2 || p[0] > 0xf4)
		return 0;
	n = p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
	if (n > left)
		return 0;
	for (i = 1; i < n; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) ||
		(p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f))
		return 0;
	return n;
}

/* Eight bytes, none of them zero and none past ASCII? */
static inline bool
is_plain(uint64_t word)
{
	return ((word | (word - UINT64_C(0x0101010101010101))) &
			UINT64_C(0x8080808080808080)) == 0;
}

/* The word is_plain may be asked about for fewer than eight bytes. */
static inline uint64_t
read_few(const char *text, size_t len)
{
	uint32_t first;
	uint32_t last;

	if (len < 4)
		return UINT64_C(0x0101010101000000) |
			(uint64_t) (unsigned char) text[0] |
			(uint64_t) (unsigned char) text[len / 2] << 8 |
			(uint64_t) (unsigned char) text[len - 1] << 16;
	memcpy(&first, text, 4);
	memcpy(&last, text + len - 4, 4);
	return first | (uint64_t) last << 32;
}

/* ASCII without NUL, which nearly all is? */
static inline bool
is_plain_text(const char *text, size_t len)
{
	uint64_t word;
	size_t at;

	if (len < 8)
		return len == 0 || is_plain(read_few(text, len));
	for (at = 0; at < len - 8; at += 8)
	{
		memcpy(&word, text + at, 8);
		if (!is_plain(word))
			return false;
	}
	memcpy(&word, text + len - 8, 8);
	return is_plain(word);
}

bool
pfa_json_utf8_valid(const char *text, size_t len)
{
	const unsigned char *p = (const unsigned char *) text;
	size_t n;

	if (is_plain_text(text, len))
		return true;
	for (; len > 0; p += n, len -= n)
	{
		n = utf8_length(p, len);
		if (n == 0)
			return false;
	}
	return true;
}

size_t
pfa_json_utf8_cut(const char *text, size_t len, size_t max)
{
	size_t n = max;

	if (len <= max)
		return len;
	/* back to the start of the character that begins before the cut */
	while (n > 0 && max - n < 4 && ((unsigned char) text[n] & 0xc0) == 0x80)
		n--;
	return n;
}

size_t
pfa_json_printable(char *dst, size_t size, const char *src, size_t len)
{
	const unsigned char *p = (const unsigned char *) src;
	size_t out = 0;
	size_t n;

	while (len > 0)
	{
		n = utf8_length(p, len);
		if (n > 1 && out + n > size - 1)
			break;
		if (out + 1 > size - 1)
			break;
		if (n <= 1)
		{
			dst[out++] = (n == 1 && p[0] >= 0x20 && p[0] != 0x7f) ?
				(char) p[0] :
				'?';
			n = 1;
		}
		else
		{
			memcpy(dst + out, p, n);
			out += n;
		}
		p += n;
		len -= n;
	}
	dst[out] = '\0';
	return out;
}

static const char *
skip_digits(const char *p, const char *end)
{
	while (p < end && *p >= '0' && *p <= '9')
		p++;
	return p;
}

static bool
number_valid(const char *p, const char *end)
{
	const char *start;

	if (p < end && *p == '-')
		p++;
	start = p;
	p = skip_digits(p, end);
	if (p == start || (*start == '0' && p - start > 1))
		return false;
	if (p < end && *p == '.')
	{
		start = ++p;
		p = skip_digits(p, end);
		if (p == start)
			return false;
	}
	if (p < end && (*p == 'e' || *p == 'E'))
	{
		p++;
		if (p < end && (*p == '+' || *p == '-'))
			p++;
		start = p;
		p = skip_digits(p, end);
		if (p == start)
			return false;
	}
	return p == end;
}

bool
pfa_json_scalar_valid(const char *text, size_t len)
{
	if (len == 4)
	{
		if (memcmp(text, "true", 4) == 0 || memcmp(text, "null", 4) == 0)
			return true;
	}
	else if (len == 5 && memcmp(text, "false", 5) == 0)
		return true;
	return number_valid(text, text + len);
}
