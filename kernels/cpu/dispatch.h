/* Which instruction sets this CPU runs, and the tables of tiles of the one in use. */
#ifndef HALFWAVE_DISPATCH_H
#define HALFWAVE_DISPATCH_H

#include "tiles/activation.h"
#include "tiles/ceilings.h"
#include "tiles/contraction.h"
#include "tiles/depthwise.h"
#include "tiles/direct.h"
#include "tiles/dropout.h"
#include "tiles/householder.h"
#include "tiles/loss.h"
#include "tiles/optimizer.h"
#include "tiles/pooling.h"
#include "tiles/random.h"
#include "tiles/reduction.h"
#include "tiles/winograd.h"

typedef struct {
    const char *name; /* baseline, avx2, avx512, neon */
    const hw_contraction_tiles *contraction;
    const hw_winograd_tiles *winograd;
    const hw_direct_tiles *direct;
    const hw_depthwise_tiles *depthwise;
    const hw_random_tiles *random;
    const hw_householder_tiles *householder;
    const hw_reduction_tiles *reduction;
    const hw_activation_tiles *activation;
    const hw_pooling_tiles *pooling;
    const hw_loss_tiles *loss;
    const hw_dropout_tiles *dropout;
    const hw_optimizer_tiles *optimizer;
    const hw_ceilings_tiles *ceilings;
} hw_tiles;

/* The sets compiled in, best last; and whether this CPU and system can run one. */
int hw_set_count(void);
const hw_tiles *hw_set_tiles(int set);
int hw_set_supported(int set);

#endif
