/*
 * test_json_text.c
 *	  UTF-8, cuts, escapes and scalars against oracles of another kind.
 *
 * Texts lie in memory of their own size, for a sanitizer to see a read past
 * their end.
 */
#include "record/json_text.h"

#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tap.h"

/*
 * The rows of the Unicode standard's table 3-7, without NUL: the ranges of
 * each byte of a character.
 */
static const unsigned char forms[][8] = {
	{0x01, 0x7f},
	{0xc2, 0xdf, 0x80, 0xbf},
	{0xe0, 0xe0, 0xa0, 0xbf, 0x80, 0xbf},
	{0xe1, 0xec, 0x80, 0xbf, 0x80, 0xbf},
	{0xed, 0xed, 0x80, 0x9f, 0x80, 0xbf},
	{0xee, 0xef, 0x80, 0xbf, 0x80, 0xbf},
	{0xf0, 0xf0, 0x90, 0xbf, 0x80, 0xbf, 0x80, 0xbf},
	{0xf1, 0xf3, 0x80, 0xbf, 0x80, 0xbf, 0x80, 0xbf},
	{0xf4, 0xf4, 0x80, 0x8f, 0x80, 0xbf, 0x80, 0xbf},
};

static size_t
character_length(const unsigned char *p, size_t left)
{
	int i;
	size_t k;

	for (i = 0; i < lengthof(forms); i++)
	{
		size_t n = i == 0 ? 1 : i == 1 ? 2 : i < 6 ? 3 : 4;

		for (k = 0; k < n && k < left; k++)
			if (p[k] < forms[i][2 * k] || p[k] > forms[i][2 * k + 1])
				break;
		if (k == n)
			return n;
	}
	return 0;
}

static bool
is_utf8(const char *text, size_t len)
{
	size_t at = 0;

	while (at < len)
	{
		size_t n = character_length((const unsigned char *) text + at,
									len - at);

		if (n == 0)
			return false;
		at += n;
	}
	return true;
}

static size_t
random_character(char *out)
{
	const unsigned char *form =
		forms[random_below(3) ? 0 : random_below(lengthof(forms))];
	size_t n;

	for (n = 0; n < 4 && form[2 * n] != 0; n++)
		out[n] = (char) (form[2 * n] +
						 random_below((size_t) form[2 * n + 1] - form[2 * n] +
									  1));
	return n;
}

/* Of characters, with a damaged byte in half of the cases. */
static char *
random_text(size_t *len)
{
	char text[80];
	size_t wanted = random_below(36);
	size_t n = 0;
	char *copy;

	while (n < wanted)
		n += random_character(text + n);
	if (n > 0 && random_below(2) == 0)
		text[random_below(n)] = random_below(8) == 0 ? '\0' :
													   (char) random_bits();
	if (n > 0 && random_below(8) == 0)
		n--;
	copy = malloc(n == 0 ? 1 : n);
	memcpy(copy, text, n);
	*len = n;
	return copy;
}

static void
test_utf8(int rounds)
{
	bool valid = true;
	bool cut = true;
	bool printable = true;
	int nvalid = 0;
	int i;

	for (i = 0; i < rounds; i++)
	{
		size_t len;
		char *text = random_text(&len);
		size_t max = random_below(len + 2);
		char message[24];
		size_t n;
		bool is_valid = is_utf8(text, len);

		nvalid += is_valid;
		valid &= pfa_json_utf8_valid(text, len) == is_valid;

		/* the cut splits nothing and could not be later */
		n = pfa_json_utf8_cut(text, len, max);
		cut &= n <= len && n <= max;
		if (is_valid)
			cut &= is_utf8(text, n) &&
				(n == len ||
				 n + character_length((unsigned char *) text + n, len - n) >
					 max);

		n = pfa_json_printable(message, sizeof(message), text, len);
		printable &= n < sizeof(message) && message[n] == '\0' &&
			strlen(message) == n && is_utf8(message, n);
		for (; n > 0; n--)
			printable &= (unsigned char) message[n - 1] >= ' ' &&
				message[n - 1] != 0x7f;
		free(text);
	}
	check(valid && nvalid > rounds / 4 && nvalid < rounds * 3 / 4,
		  "%d random texts are UTF-8 or not", rounds);
	check(cut, "are cut between characters, as late as can be");
	check(printable, "and make clean messages");
}

static void
test_every_character(void)
{
	bool ok = true;
	uint32_t c;

	/* by a \u escape, or two, and compared with what the oracle says */
	for (c = 1; c <= 0x10ffff && ok; c++)
	{
		char escaped[16];
		char text[16];
		size_t len;
		PfaJsonText fault;

		if (c < 0x10000)
			snprintf(escaped, sizeof(escaped), c % 2 ? "\\u%04x" : "\\u%04X",
					 c);
		else
			snprintf(escaped, sizeof(escaped), "\\u%04x\\u%04X",
					 0xd800 + ((c - 0x10000) >> 10),
					 0xdc00 + ((c - 0x10000) & 0x3ff));
		fault = pfa_json_unescape(escaped, strlen(escaped), text, &len);
		if (c >= 0xd800 && c <= 0xdfff)
			ok = fault == PFA_JSON_TEXT_SURROGATE && len == 3 &&
				memcmp(text, "\xef\xbf\xbd", 3) == 0;
		else
			ok = fault == PFA_JSON_TEXT_OK &&
				character_length((unsigned char *) text, len) == len &&
				len ==
					(c < 0x80        ? 1u :
						 c < 0x800   ? 2u :
						 c < 0x10000 ? 3u :
									   4u) &&
				pfa_json_utf8_valid(text, len);
		if (!ok)
			printf("# U+%04X\n", c);
	}
	check(ok, "every character by its escape");
}

static void
test_escapes(void)
{
	static const struct
	{
		const char *escaped;
		const char *text;
		PfaJsonText fault;
	} escapes[] = {
		{"\\\"\\\\\\/\\b\\f\\n\\r\\t", "\"\\/\b\f\n\r\t", PFA_JSON_TEXT_OK},
		{"a\\u0000b", "ab", PFA_JSON_TEXT_NUL},
		{"\\ud83d\\ude00!", "\xf0\x9f\x98\x80!", PFA_JSON_TEXT_OK},
		{"\\ude00\\ud83d", "\xef\xbf\xbd\xef\xbf\xbd", PFA_JSON_TEXT_SURROGATE},
		{"\\ud83d\\ud83d\\ude00", "\xef\xbf\xbd\xf0\x9f\x98\x80",
		 PFA_JSON_TEXT_SURROGATE},
		{"\\ud83dx", "\xef\xbf\xbdx", PFA_JSON_TEXT_SURROGATE},
		{"\\ud83d\\n", "\xef\xbf\xbd\n", PFA_JSON_TEXT_SURROGATE},
		{"\xc3\xa9", "\xc3\xa9", PFA_JSON_TEXT_OK},
	};
	char text[64];
	size_t len;
	int i;

	for (i = 0; i < lengthof(escapes); i++)
		check(pfa_json_unescape(escapes[i].escaped, strlen(escapes[i].escaped),
								text, &len) == escapes[i].fault &&
				  len == strlen(escapes[i].text) &&
				  memcmp(text, escapes[i].text, len) == 0,
			  "%s", escapes[i].escaped);
}

static void
test_scalars(int rounds)
{
	static const char bytes[] = "0012345.eE+-truefalsn";
	static const char *const bases[] = {"true", "false", "null", "-12.5e+3",
										"0",    "10",    "0.5",  "1e5"};
	regex_t grammar;
	bool ok = true;
	int naccepted = 0;
	int i;

	regcomp(&grammar,
			"^(true|false|null|"
			"-?(0|[1-9][0-9]*)(\\.[0-9]+)?([eE][+-]?[0-9]+)?)$",
			REG_EXTENDED | REG_NOSUB);
	for (i = 0; i < rounds && ok; i++)
	{
		char text[16];
		size_t changes = random_below(3);
		bool valid;

		strcpy(text, bases[random_below(lengthof(bases))]);
		while (changes-- > 0)
			text[random_below(strlen(text))] =
				bytes[random_below(sizeof(bytes) - 1)];
		if (random_below(4) == 0)
			text[strlen(text) - 1] = '\0';
		valid = pfa_json_scalar_valid(text, strlen(text));
		ok = valid == (regexec(&grammar, text, 0, NULL, 0) == 0);
		naccepted += valid;
		if (!ok)
			printf("# %s\n", text);
	}
	regfree(&grammar);
	check(ok && naccepted > rounds / 4, "%d random scalars", rounds);
}

int
main(void)
{
	test_utf8(500000);
	test_every_character();
	test_escapes();
	test_scalars(300000);
	return end_of_tests();
}
