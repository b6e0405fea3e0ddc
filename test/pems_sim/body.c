/*
 * body.c
 *	  An answer as a list of pieces of memory, sent without copying.
 */
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "sim.h"

#define FILL_CHUNK (1 << 20)

SimBody *
sim_body_create(void)
{
	return sim_alloc(sizeof(SimBody));
}

void
sim_body_piece(SimBody *body, const void *data, size_t len)
{
	if (len == 0)
		return;
	if (body->npieces == body->size)
	{
		body->size = body->size ? body->size * 2 : 32;
		body->pieces = sim_realloc(body->pieces,
								   body->size * sizeof(struct MHD_IoVec));
	}
	body->pieces[body->npieces].iov_base = data;
	body->pieces[body->npieces].iov_len = len;
	body->npieces++;
	body->total += len;
}

void
sim_body_own(SimBody *body, SimBuf *buf)
{
	if (buf->data == NULL)
		return;
	body->owned = sim_realloc(body->owned, (body->nowned + 1) * sizeof(char *));
	body->owned[body->nowned++] = buf->data;
	sim_body_piece(body, buf->data, buf->len);
	memset(buf, 0, sizeof(*buf));
}

void
sim_body_copy(SimBody *body, const char *text)
{
	SimBuf buf = {0};

	sim_buf_puts(&buf, text);
	sim_body_own(body, &buf);
}

/* len times c, out of one shared megabyte: size without memory. */
void
sim_body_fill(SimBody *body, char c, size_t len)
{
	SimBuf chunk = {0};

	chunk.data = sim_realloc(NULL, FILL_CHUNK);
	memset(chunk.data, c, FILL_CHUNK);
	chunk.len = len < FILL_CHUNK ? len : FILL_CHUNK;
	len -= chunk.len;
	sim_body_own(body, &chunk);
	while (len > 0)
	{
		size_t piece = len < FILL_CHUNK ? len : FILL_CHUNK;

		sim_body_piece(body, body->owned[body->nowned - 1], piece);
		len -= piece;
	}
}

void
sim_body_text(SimBody *body, SimRowText *text)
{
	if (body->ntexts == body->texts_size)
	{
		body->texts_size = body->texts_size ? body->texts_size * 2 : 32;
		body->texts = sim_realloc(body->texts,
								  body->texts_size * sizeof(SimRowText *));
	}
	body->texts[body->ntexts++] = text;
}

void
sim_body_truncate(SimBody *body, size_t total)
{
	while (body->total > total)
	{
		struct MHD_IoVec *last = &body->pieces[body->npieces - 1];
		size_t excess = body->total - total;

		if (excess >= last->iov_len)
		{
			body->total -= last->iov_len;
			body->npieces--;
		}
		else
		{
			last->iov_len -= excess;
			body->total = total;
		}
	}
}

/* The next bytes, at most max; 0 at the end. */
size_t
sim_body_read(SimBody *body, char *out, size_t max)
{
	size_t done = 0;

	while (done < max)
	{
		size_t len;

		if (body->piece == body->npieces)
		{
			if (body->repeat == 0 || body->repeat >= body->npieces)
				break;
			body->piece = body->repeat;
		}
		len = body->pieces[body->piece].iov_len - body->used;
		if (len > max - done)
			len = max - done;
		memcpy(out + done,
			   (const char *) body->pieces[body->piece].iov_base + body->used,
			   len);
		done += len;
		body->used += len;
		if (body->used == body->pieces[body->piece].iov_len)
		{
			body->piece++;
			body->used = 0;
		}
	}
	return done;
}

void
sim_body_free(SimBody *body)
{
	int i;

	if (body == NULL)
		return;
	for (i = 0; i < body->ntexts; i++)
		sim_text_release(body->texts[i]);
	for (i = 0; i < body->nowned; i++)
		free(body->owned[i]);
	free(body->texts);
	free(body->owned);
	free(body->pieces);
	free(body);
}

/* Replace the pieces by their compressed form. */
bool
sim_body_gzip(SimBody *body)
{
	z_stream stream = {0};
	SimBuf out = {0};
	int i;
	bool good;

	/* fast: real servers do not spend more either */
	if (deflateInit2(&stream, 1, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) !=
		Z_OK)
		return false;
	sim_buf_reserve(&out, deflateBound(&stream, body->total) / 4 + 1024);
	for (i = 0; i <= body->npieces; i++)
	{
		int flush = i == body->npieces ? Z_FINISH : Z_NO_FLUSH;

		stream.next_in = flush ? NULL : (Bytef *) body->pieces[i].iov_base;
		stream.avail_in = flush ? 0 : (uInt) body->pieces[i].iov_len;
		do
		{
			sim_buf_reserve(&out, 65536);
			stream.next_out = (Bytef *) out.data + out.len;
			stream.avail_out = (uInt) (out.size - out.len - 1);
			deflate(&stream, flush);
			out.len = (size_t) ((char *) stream.next_out - out.data);
		} while (stream.avail_out == 0);
	}
	good = stream.avail_in == 0;
	deflateEnd(&stream);
	body->npieces = 0;
	body->total = 0;
	sim_body_own(body, &out);
	return good;
}
