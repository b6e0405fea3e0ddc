/*
 * spi.h
 *	  Reading the result of pfa_spi_execute, for the files of catalog/.
 *
 * Rows and columns count from 0 and 1.  Between pfa_spi_execute and
 * pfa_spi_finish the current memory context is SPI's, so what is to stay is
 * copied to a context that the caller names.
 */
#ifndef PFA_SPI_H
#define PFA_SPI_H

#include "postgres.h"
#include "datatype/timestamp.h"

/* NULL in the table: 0, false, NULL. */
extern int64 pfa_spi_get_int64(uint64 row, int column);
extern int pfa_spi_get_int32(uint64 row, int column);
extern bool pfa_spi_get_bool(uint64 row, int column);
extern TimestampTz pfa_spi_get_time(uint64 row, int column);
extern char *pfa_spi_get_text(MemoryContext ctx, uint64 row, int column);
/* Any type by value; isnull as in SPI_getbinval. */
extern Datum pfa_spi_get_datum(uint64 row, int column, bool *isnull);

/* For texts that can be NULL: sets the value and its mark in nulls. */
extern void
pfa_spi_set_text(Datum *values, char *nulls, int i, const char *text);

/* Run a statement whose result is of no interest; returns the rows touched. */
extern uint64 pfa_spi_run(const char *text, int nargs, const Oid *argtypes,
						  Datum *values, const char *nulls);

#endif /* PFA_SPI_H */
