/*
 * json_text.h
 *	  JSON's strings and scalars, once they lie in memory as a whole.
 */
#ifndef PFA_JSON_TEXT_H
#define PFA_JSON_TEXT_H

#include <stdbool.h>
#include <stddef.h>

typedef enum PfaJsonText
{
	PFA_JSON_TEXT_OK,
	PFA_JSON_TEXT_SURROGATE, /* half a surrogate pair */
	PFA_JSON_TEXT_NUL        /* \u0000, which no text of ours can hold */
} PfaJsonText;

/*
 * Replace the escapes of [src, src + len) into dst, which has room for len
 * bytes; the escapes were checked by the scanner.  With a fault the rest is
 * decoded all the same: half a pair becomes U+FFFD, NUL is dropped.
 */
extern PfaJsonText
pfa_json_unescape(const char *src, size_t len, char *dst, size_t *dst_len);

/* Valid UTF-8, without NUL? */
extern bool pfa_json_utf8_valid(const char *text, size_t len);

/* The longest prefix of at most max bytes that splits no character. */
extern size_t pfa_json_utf8_cut(const char *text, size_t len, size_t max);

/*
 * Copy at most size - 1 bytes, NUL-terminated, fit for a message: invalid and
 * control bytes become '?'.  Returns the length.
 */
extern size_t
pfa_json_printable(char *dst, size_t size, const char *src, size_t len);

/* Is it a number, true, false or null, by JSON's grammar? */
extern bool pfa_json_scalar_valid(const char *text, size_t len);

#endif /* PFA_JSON_TEXT_H */
