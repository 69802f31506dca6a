#!/bin/sh
# What does beta do to two latents? Trains five models and writes one page with a switch between them:
#     sh scripts/betas.sh            data are downloaded, or taken from $NPVAE_DATA_DIR
#     sh scripts/betas.sh site       the folder of the page; by default runs/betas
# Options in $TRAIN go to train.py, further words to generate.py. The page in npvae/pictures/, which
# holds no image of the dataset, is that of
#     TRAIN="--hidden 32" sh scripts/betas.sh runs/betas --examples model
set -eu
here=$(dirname "$0")
out=${1:-runs/betas}
[ $# -eq 0 ] || shift
for beta in 0 0.25 1 4 784; do
  python "$here/train.py" --dataset mnist --latent-dim 2 --epochs 20 --beta $beta \
    --pictures-every 0 --quiet --out "$out/beta$beta" ${TRAIN:-}
done
python "$here/generate.py" explorer --checkpoint "$out/beta0" --checkpoint "$out/beta0.25" \
  --checkpoint "$out/beta1" --checkpoint "$out/beta4" --checkpoint "$out/beta784" \
  --out "$out/index.html" "$@"
