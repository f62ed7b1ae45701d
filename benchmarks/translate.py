#!/usr/bin/env python
"""Time `Translator` on a whole 240×240×155 four-sequence volume against the slice-by-slice loop: every slice, as it lies, one at a time, fp32.

The loop is what a first version does: for each of the 155 axial slices, `generator(slice)`. The library crops to the brain's box, leaves out
slices without brain, translates in batches, and uses the library's layers, which the loop does not. Both run the same weights. The time of
the loop does not depend on what is on a slice, so it may be timed on some of them and multiplied (`--slices`); so may the library's, with what
it does around the network timed on the whole volume and added. Processor time is given beside wall time: on a busy machine it is the one to trust.

Instance normalization takes its mean and variance over the whole picture, so a picture cropped to the brain is not normalized as the same
picture with its wide empty border is. The largest difference is therefore stated twice: against the same loop on slices of the library's
frame, where only rounding may differ, and against the loop on whole slices.

`--device cuda` runs both on the GPU; each slice of the loop comes back to the host before the next goes out, as it does in a first version, so
the clock needs no other care. The times include the copies both ways.
"""
import argparse, sys, time
from pathlib import Path

import numpy as np, torch

SHAPE = (240,240,155)

def phantom_volume(shape=SHAPE):
    "A brain-sized ellipsoid of smooth random intensities, (4,X,Y,Z) normalized, and its mask: 137×167×131 mm, the mean of two stripped scans of glioma patients"
    axes = np.ogrid[tuple(slice(0,n) for n in shape)]
    mask = sum(((x-(n-1)/2)/(size/2))**2 for x,n,size in zip(axes, shape, (137,167,131))) <= 1
    coarse = torch.rand(1, 4, 16, 16, 12, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.interpolate(coarse, size=shape,
                                           mode='trilinear')[0].numpy()*mask,mask

def padded(vol, box, frame, z):
    "One slice of the brain's box in a frame"
    x = vol[(slice(None),*box,z)]
    return np.pad(x, [(0,0)] + [(0,n-m) for n,m in zip(frame, x.shape[1:])])

def clock(): return time.perf_counter(),time.process_time()
def since(start): return tuple(b-a for a,b in zip(start, clock()))

def loop(generator, vol, zs, box=(slice(None),)*2, device='cpu'):
    "The slice-by-slice loop over slices `zs`"
    from neuroscope.preprocessing.slices import from_model_range, to_model_range
    out = []
    with torch.no_grad():
        for z in zs:
            out.append(from_model_range(generator(torch.from_numpy(to_model_range(vol[(slice(None),*box,z)])[None]).to(device))[0].cpu().numpy()))
    return np.stack(out, -1)

def main():
    p = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--filters', type=int, default=64,
                   help='of the first layer of the generator (64, the standard)')
    p.add_argument('--blocks', type=int, default=9, help='residual blocks (9)')
    p.add_argument(
        '--slices', type=int, default=155,
        help='of the loop that are timed (155, all); fewer are extrapolated, for the library too')
    p.add_argument('--batch', type=int, default=8, help='slices at a time, for the library (8)')
    p.add_argument('--threads', type=int, help="of torch (torch's default)")
    p.add_argument('--bf16', action='store_true',
                   help='time the library in bfloat16 too, where the processor has it')
    p.add_argument('--device', default='cpu', help='to run on: cpu (default), cuda, cuda:1, …')
    args = p.parse_args()
    if args.threads: torch.set_num_threads(args.threads)
    sys.path.insert(0, str(Path(__file__).parent))
    from functools import partial
    from train_step import machine, plain
    from neuroscope.core import InputError
    from neuroscope.models.components import ResnetGenerator
    from neuroscope.models.cyclegan import CycleGAN
    from neuroscope.preprocessing.slices import brain_box
    from neuroscope.utils import Translator, usable_device
    try: usable_device(args.device)
    except InputError as e: p.error(str(e))
    run = partial(loop, device=args.device)
    torch.manual_seed(0)
    model = CycleGAN(generator_a2b=ResnetGenerator(4, 4, args.filters, args.blocks),
                     generator_b2a=torch.nn.Identity(), discriminator_filters=4).eval()
    textbook = plain(ResnetGenerator(4, 4, args.filters, args.blocks)).eval()
    textbook.load_state_dict(model.generator_a2b.state_dict())
    model.to(args.device)
    textbook.to(args.device)
    vol,mask = phantom_volume()
    vol = vol.astype(np.float32)
    filled = np.flatnonzero(mask.any((0,1)))
    some = filled[np.linspace(0, len(filled)-1, min(args.slices, len(filled))).round().astype(int)]
    box = brain_box(mask)[:2]
    frame = tuple(-(-(b.stop-b.start)//4)*4 for b in box)
    print(machine(args.device))
    print(f'{args.filters} filters, {args.blocks} residual blocks; {len(filled)} of '
          f'{SHAPE[2]} slices hold brain, in a box of {frame[0]}×{frame[1]}')

    run(textbook, vol, some[:1])                                      # warm up
    zs = range(SHAPE[2]) if args.slices>=SHAPE[2] else some
    start = clock()
    whole = run(textbook, vol, zs)
    slow = since(start)
    whole = whole[..., [list(zs).index(z) for z in some]]
    slow = tuple(t*SHAPE[2]/len(zs) for t in slow)
    print(f'\n{"":44s}{"s":>9s}{"s processor":>13s}{"ratio":>9s}{"processor":>11s}')
    print(f'{"slice by slice, all 155, whole slices, fp32":44s}{slow[0]:9.1f}{slow[1]:13.1f}')
    stack = np.stack([padded(vol, box, frame, z) for z in some])
    identity = CycleGAN(generator_a2b=torch.nn.Identity(), generator_b2a=torch.nn.Identity(),
                        discriminator_filters=4).eval()
    start = clock()
    Translator(identity, size=frame).translate_normalized(vol, mask)
    around = since(start)   # cropping, stacking, putting back
    for bf16 in (False,True)[:1+args.bf16]:
        tr = Translator(model, batch_size=args.batch, size=frame, bf16=bf16)
        if bf16 and not tr.bf16:
            print('This processor has no bfloat16 arithmetic: left out.')
            continue
        tr.translate_slices(stack[:args.batch])                       # warm up
        start = clock()
        out = tr.translate_slices(stack)
        fast = tuple(t*len(filled)/len(some)+o for t,o in zip(since(start), around))
        print(f'{"Translator, "+("bf16" if bf16 else "fp32"):44s}{fast[0]:9.1f}{fast[1]:13.1f}{slow[0]/fast[0]:8.2f}x{slow[1]/fast[1]:10.2f}x')
        few = np.linspace(0, len(some)-1, min(4, len(some))).round().astype(int)
        at = (slice(None),)*2 + tuple(slice(0, b.stop-b.start) for b in box)
        inside = np.stack([mask[(*box,z)] for z in some])[:,None].repeat(4, 1)
        same = np.moveaxis(run(textbook, np.moveaxis(stack, 0, -1), few), -1, 0)
        far = np.abs(out[at] - np.stack([whole[(slice(None),*box,i)]
                                         for i in range(len(some))]))[inside]
        print('  difference in the brain: '
              f'{np.abs(out[few]-same)[at][inside[few]].max():.1e} at most from the loop '
              f'on the same frame; {far.max():.2f} at most, {far.mean():.3f} on average, '
              'from the loop on whole slices')
    if len(some)<len(filled): print(f'\nextrapolated from {len(some)} slices')
    print('ratio: time of the loop over time of the variant; normalized intensities '
          'run from 0 to 1.25; weights are random')

if __name__=='__main__': main()
