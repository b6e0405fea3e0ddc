/*
 * value.c
 *	  Text of a cell to a value of its field's kind.
 *
 * Blank text is no value.  Texts are kept as they are, spaces included, since
 * they are PEMS's; numbers, dates and booleans may have spaces around them.
 */
#include "record/record.h"

#include <string.h>

#include "record/decode.h"

static inline bool
is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static bool
decode_text(const char *text, size_t len, PfaBatch *batch, PfaValue *value,
			const char **reason)
{
	char *copy;

	if (len > UINT32_MAX)
	{
		*reason = "is too long";
		return false;
	}
	copy = pfa_batch_alloc(batch, len);
	if (copy == NULL)
		return false;
	memcpy(copy, text, len);
	value->ptr = copy;
	value->len = (uint32_t) len;
	return true;
}

static bool
is_word(const char *text, size_t len, const char *lower)
{
	size_t i;

	for (i = 0; i < len; i++)
	{
		if (lower[i] == '\0' || (text[i] | 0x20) != lower[i])
			return false;
	}
	return lower[len] == '\0';
}

static bool
decode_letter(char c, PfaValue *value)
{
	value->boolean = c == 'Y' || c == 'y' || c == '1' || c == '+';
	return value->boolean || c == 'N' || c == 'n' || c == '0' || c == '-';
}

static bool
decode_boolean(const char *text, size_t len, PfaValue *value,
			   const char **reason)
{
	if (len == 1 && decode_letter(*text, value))
		return true;
	value->boolean = is_word(text, len, "true") || is_word(text, len, "yes") ||
		(len == 2 && memcmp(text, "-1", 2) == 0);
	if (value->boolean || is_word(text, len, "false") ||
		is_word(text, len, "no"))
		return true;
	*reason = "is neither yes nor no";
	return false;
}

bool
pfa_value_decode(PfaKind kind, const char *text, size_t len, PfaBatch *batch,
				 PfaValue *value, const char **reason)
{
	const char *start = text;
	const char *end = text + len;

	memset(value, 0, sizeof(*value));
	*reason = NULL;
	while (start < end && is_space(*start))
		start++;
	if (start == end)
	{
		value->isnull = true;
		return true;
	}
	if (kind == PFA_KIND_TEXT)
		return decode_text(text, len, batch, value, reason);
	while (is_space(end[-1]))
		end--;
	len = (size_t) (end - start);
	switch (kind)
	{
		case PFA_KIND_NUMBER:
			return pfa_number_decode(start, len, batch, value, reason);
		case PFA_KIND_DATE:
			return pfa_date_decode(start, len, value, reason);
		default:
			return decode_boolean(start, len, value, reason);
	}
}

bool
pfa_field_decode(const PfaField *field, const char *text, size_t len,
				 PfaBatch *batch, PfaValue *value, const char **reason)
{
	const char *blank = field->default_value;

	if (!pfa_value_decode(field->kind, text, len, batch, value, reason))
		return false;
	if (!value->isnull || blank == NULL)
		return true;
	if (pfa_value_decode(field->kind, blank, strlen(blank), batch, value,
						 reason))
		return true;
	if (*reason != NULL)
		*reason =
			"is blank, and what the mapping says for blanks cannot be read";
	return false;
}
