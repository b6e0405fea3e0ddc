/*
 * grid_private.h
 *	  What the two halves of the grid parser share.
 *
 * grid_parser.c has the bytes: the loop, rows and the carry.
 * grid_envelope.c knows what the values around the rows mean.
 */
#ifndef PFA_GRID_PRIVATE_H
#define PFA_GRID_PRIVATE_H

#include "record/grid_parser.h"

#include "record/json_stream.h"
#include "record/row_parser.h"

/* A cell of a row that is too large, with its text. */
typedef struct PfaGridLargeCell
{
	PfaCell cell;
	char text[PFA_JSON_TOKEN_SIZE];
} PfaGridLargeCell;

struct PfaGridParser
{
	PfaGridLimits limits;
	PfaGridLayout *layout;
	PfaGridLayout *incoming; /* the field list being read */
	PfaJsonStream stream;
	PfaRowParser row;
	PfaGridResult result;

	unsigned char *places; /* of the open containers */
	int member;            /* where the value of the last name goes */
	size_t nbytes;         /* of the answer so far */
	int bom;               /* bytes of a byte order mark seen */

	char *carry; /* a row that has not ended yet */
	size_t carry_len;
	size_t carry_room;
	size_t carry_at; /* its position in the answer */
	bool carrying;
	bool carry_tried; /* with the beginning of the next piece */
	bool scan_string; /* the end of the carry is in a string */
	bool scan_escape; /* behind a backslash */
	int64_t scan_depth;

	bool field_has_num;
	int field_num;
	size_t field_name_len;
	char field_name[PFA_JSON_TOKEN_SIZE];
	int total_from; /* the place of the total so far, 0: none */

	int large_ncells; /* of the list being read */
	PfaGridLargeCell large_num;
	PfaGridLargeCell large_alias;
	PfaGridLargeCell large_value;

	bool alerted;
	char alert_name[128];
	char alert_message[320];
};

/* Endings; all return false, for the caller to pass on. */
extern bool pfa_grid_end_with(PfaGridParser *parser, PfaGridStatus status,
							  const char *error);
extern bool
pfa_grid_malformed(PfaGridParser *parser, size_t at, const char *error);
extern bool
pfa_grid_row_failed(PfaGridParser *parser, PfaRowStatus status, size_t at);

/* Is the object that was just opened a row? */
extern bool pfa_grid_row_begins(const PfaGridParser *parser);
/* The row just opened is to be read as part of the envelope. */
extern bool pfa_grid_begin_large_row(PfaGridParser *parser);
/* An event of anything but rows; at is the position behind it. */
extern bool
pfa_grid_take_event(PfaGridParser *parser, PfaJsonEvent event, size_t at);

#endif /* PFA_GRID_PRIVATE_H */
