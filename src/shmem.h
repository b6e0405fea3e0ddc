/*
 * shmem.h
 *	  Shared memory of the extension.
 */
#ifndef PFA_SHMEM_H
#define PFA_SHMEM_H

/* From _PG_init, while shared_preload_libraries is processed. */
extern void pfa_shmem_init(void);

#endif /* PFA_SHMEM_H */
