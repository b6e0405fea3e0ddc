/*
 * hash.h
 *	  64-bit hash of bytes, for record/ alone.
 *
 * Hashes are stored in pfa_mirror: another function means that every record
 * is written once more.
 */
#ifndef PFA_RECORD_HASH_H
#define PFA_RECORD_HASH_H

#include <stddef.h>
#include <stdint.h>

extern uint64_t pfa_hash_bytes(const char *bytes, size_t len, uint64_t seed);

#endif /* PFA_RECORD_HASH_H */
