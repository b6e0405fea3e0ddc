/*
 * fuzz_grid_parser.c
 *	  Any bytes, cut anywhere: one verdict, and never praise for bad JSON.
 *
 * The first bytes of the input choose limits, whether a field list is known,
 * and the cuts; the rest is the answer.  It is fed as a whole and in pieces,
 * and what comes of it must be the same.  An answer that is taken must be
 * JSON by a grammar of its own.
 */
#include "record/grid_parser.h"

#include <stdlib.h>
#include <string.h>

#include "answer.h"

#define CONTROL 4 /* bytes */

extern int LLVMFuzzerInitialize(int *argc, char ***argv);
extern int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static PfaGridLayout *known_layout;
static char whole[sizeof(summary)];

/* ---- what is JSON ---- */

typedef struct Text
{
	const char *p;
	const char *end;
	int depth;
} Text;

static bool is_json_value(Text *text);

static void
skip_space(Text *text)
{
	while (text->p < text->end && strchr(" \t\r\n", *text->p) != NULL &&
		   *text->p != '\0')
		text->p++;
}

static bool
take(Text *text, char c)
{
	skip_space(text);
	if (text->p == text->end || *text->p != c)
		return false;
	text->p++;
	return true;
}

static bool
is_json_string(Text *text)
{
	int i;

	if (!take(text, '"'))
		return false;
	while (text->p < text->end && *text->p != '"')
	{
		if (*text->p++ != '\\')
			continue;
		if (text->p == text->end || *text->p == '\0' ||
			strchr("\"\\/bfnrtu", *text->p) == NULL)
			return false;
		if (*text->p++ != 'u')
			continue;
		for (i = 0; i < 4; i++, text->p++)
			if (text->p == text->end || *text->p == '\0' ||
				strchr("0123456789abcdefABCDEF", *text->p) == NULL)
				return false;
	}
	return take(text, '"');
}

static bool
is_json_container(Text *text, char close, bool named)
{
	text->p++;
	if (take(text, close))
		return true;
	if (++text->depth > 1000)
		return false;
	do
	{
		if (named && (!is_json_string(text) || !take(text, ':')))
			return false;
		if (!is_json_value(text))
			return false;
	} while (take(text, ','));
	text->depth--;
	return take(text, close);
}

static bool
is_json_word(Text *text)
{
	char word[64];
	char *end;
	size_t len = 0;

	while (text->p + len < text->end && text->p[len] != '\0' &&
		   strchr("+-.0123456789abcdefghijklmnopqrstuvwxyzE", text->p[len]) !=
			   NULL)
		len++;
	if (len == 0)
		return false;
	text->p += len;
	if (len >= sizeof(word))
		return true; /* long numbers are for other tests */
	memcpy(word, text->p - len, len);
	word[len] = '\0';
	if (strcmp(word, "true") == 0 || strcmp(word, "false") == 0 ||
		strcmp(word, "null") == 0)
		return true;
	/* of what strtod reads, JSON has not everything */
	if (strspn(word, "+-.0123456789eE") != len || word[0] == '+' ||
		word[0] == '.' || strstr(word, "-.") != NULL ||
		word[strcspn(word, ".")] != '\0')
	{
		const char *point = strchr(word, '.');

		if (point == NULL || point == word || point[-1] == '-' ||
			word[0] == '+' || point[1] < '0' || point[1] > '9')
			return false;
	}
	end = word + (word[0] == '-');
	if (end[0] == '0' && end[1] >= '0' && end[1] <= '9')
		return false;
	(void) strtod(word, &end);
	return *end == '\0';
}

static bool
is_json_value(Text *text)
{
	skip_space(text);
	if (text->p == text->end)
		return false;
	switch (*text->p)
	{
		case '"':
			return is_json_string(text);
		case '{':
			return is_json_container(text, '}', true);
		case '[':
			return is_json_container(text, ']', false);
		default:
			return is_json_word(text);
	}
}

static bool
is_json(const char *data, size_t len)
{
	Text text = {data, data + len, 0};

	if (len >= 3 && memcmp(data, "\xef\xbb\xbf", 3) == 0)
		text.p += 3;
	if (!is_json_value(&text))
		return false;
	skip_space(&text);
	return text.p == text.end;
}

/* ---- the two ways ---- */

static PfaGridStatus
feed(const uint8_t *control, const char *data, size_t len, bool cut)
{
	static const size_t record_limits[] = {1 << 20, 4096, 300, 40};
	PfaGridLimits limits = {record_limits[control[0] & 3], 1 << 20,
							control[0] & 4 ? 12 : 32, control[0] & 8 ? 5 : 200};
	PfaBatch *batch = pfa_batch_create();
	PfaGridLayout *layout = pfa_grid_layout_create();
	PfaGridParser *parser;
	PfaGridStatus status;
	uint32_t random = control[1] | (uint32_t) control[2] << 8 | 1u << 16;
	size_t largest = 1 + control[3];
	size_t at = 0;

	if (control[0] & 16)
		pfa_grid_layout_copy(layout, known_layout);
	parser = pfa_grid_parser_create(&mapping, control[0] & 32 ? NULL : "RIO",
									layout, &limits, batch);
	while (at < len)
	{
		size_t n = len;
		char *piece;

		random = random * 1664525 + 1013904223;
		if (cut)
			n = 1 + (random >> 16) % largest;
		if (n > len - at)
			n = len - at;
		piece = malloc(n);
		memcpy(piece, data + at, n);
		pfa_grid_parser_feed(parser, piece, n);
		free(piece);
		at += n;
	}
	status = pfa_grid_parser_finish(parser);
	summary_len = 0;
	summary[0] = '\0';
	say_all(parser, batch, layout);
	pfa_grid_parser_free(parser);
	pfa_grid_layout_free(layout);
	pfa_batch_free(batch);
	return status;
}

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	static const char head[] =
		"{\"GRID\":{\"FIELDS\":{\"FIELD\":["
		"{\"aliasnum\":1,\"name\":\"pfs_id\"},"
		"{\"aliasnum\":2,\"name\":\"pfs_a_org\"},"
		"{\"aliasnum\":3,\"name\":\"description\"},"
		"{\"aliasnum\":4,\"name\":\"pfs_f_rental\"},"
		"{\"aliasnum\":5,\"name\":\"pfs_f_startdate\"},"
		"{\"aliasnum\":6,\"name\":\"pfs_f_actualized\"}]}}}";
	PfaGridLimits limits = {4096, 4096, 32, 200};
	PfaBatch *batch = pfa_batch_create();
	PfaGridParser *parser;

	(void) argc;
	(void) argv;
	pfa_mapping_prepare(&mapping);
	known_layout = pfa_grid_layout_create();
	parser = pfa_grid_parser_create(&mapping, "RIO", known_layout, &limits,
									batch);
	pfa_grid_parser_feed(parser, head, sizeof(head) - 1);
	if (pfa_grid_parser_finish(parser) != PFA_GRID_DONE)
		abort();
	pfa_grid_parser_free(parser);
	pfa_batch_free(batch);
	return 0;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *answer;
	size_t len;
	PfaGridStatus status;

	if (size < CONTROL)
		return 0;
	answer = (const char *) data + CONTROL;
	len = size - CONTROL;
	status = feed(data, answer, len, false);
	if (status == PFA_GRID_DONE && !is_json(answer, len))
	{
		fprintf(stderr, "taken, but not JSON\n");
		abort();
	}
	memcpy(whole, summary, summary_len + 1);
	feed(data, answer, len, true);
	if (strcmp(whole, summary) != 0)
	{
		fprintf(stderr, "whole: %s\ncut: %s\n", whole, summary);
		abort();
	}
	return 0;
}
