#!/usr/bin/env python
"""Time neuroscope's training iteration against the textbook CycleGAN loop: same networks and weights, same batch, same objective, one run.

The textbook loop is written here from the published algorithm (Zhu et al. 2017, and the reference PyTorch code): six generator calls, six
discriminator calls, three backward passes, two optimizers, discriminators frozen in the generators' step, `torch`'s own layers and defaults.
It runs twice: with `torch`'s own layers, which is the textbook, and with the library's layers, which tells how much of the gain is the loop's
and how much the layers'. The library runs as a user runs it: `cyclegan_learner`, callbacks included, R1 off because the textbook has none.
Variants take turns, iteration by iteration, so that whatever else the machine does falls on all of them. Ratios are given for wall time and,
in brackets, for processor time, which a busy machine disturbs less.

`--device cuda` runs everything on the GPU: the clock is read after the GPU has finished, memory is what PyTorch had allocated there at most,
and the precision of single-precision products (TF32 or not) is printed, because it decides the figures. `--compile` adds the library with its
four networks compiled by `torch.compile`; what compiling took is printed by itself and is in none of the times.

Two more figures put the times in place. The arithmetic floor is what the step's floating-point operations would take at the rate at which
this machine, in the same run, multiplies large matrices; convolutions may run a little faster than that or slower. And the share of an
iteration that goes into making its batch is measured on a slice store's kind of array.
"""
import argparse, copy, os, platform, random, statistics, subprocess, sys, time

import torch
import torch.nn.functional as F
from torch import nn

from neuroscope.core import peak_mb

def plain(net):
    "The network with `torch`'s own layers in place of the library's"
    from neuroscope.models.layers import InstanceNorm, PReLU, ReflectPad, RowConv
    swap = {ReflectPad: lambda m: nn.ReflectionPad2d(m.padding),
            InstanceNorm: lambda m: nn.InstanceNorm2d(m.num_features),
            PReLU: lambda m: nn.PReLU(m.num_parameters),
            RowConv: lambda m: nn.Conv2d(m.in_channels, m.out_channels, m.kernel_size)}
    for name,child in net.named_children():
        if type(child) in swap:
            new = swap[type(child)](child)
            new.load_state_dict(child.state_dict())
            setattr(net, name, new)
        else: plain(child)
    return net

class Buffer:
    "The published replay buffer"
    def __init__(self, size=50): self.size,self.images = size,[]
    def __call__(self, images):
        out = []
        for image in images.detach():
            if len(self.images)<self.size:
                self.images.append(image)
                out.append(image)
            elif random.random()<.5:
                i = random.randrange(self.size)
                out.append(self.images[i])
                self.images[i] = image
            else: out.append(image)
        return torch.stack(out)

class Textbook:
    "The published training loop"
    def __init__(self, model, own_layers):
        m = copy.deepcopy(model) if own_layers else plain(copy.deepcopy(model))
        self.g_ab = m.generator_a2b
        self.g_ba = m.generator_b2a
        self.d_a = m.discriminator_a
        self.d_b = m.discriminator_b
        self.g_params,self.d_params = ([*self.g_ab.parameters(), *self.g_ba.parameters()],
                                       [*self.d_a.parameters(), *self.d_b.parameters()])
        self.opt_g,self.opt_d = (torch.optim.Adam(p, lr=lr, betas=(.5,.999))
                                 for p,lr in ((self.g_params,1e-4), (self.d_params,4e-4)))
        self.pool_a = Buffer()
        self.pool_b = Buffer()

    def step(self, real_a, real_b):
        def gan(score, target): return F.mse_loss(score, torch.full_like(score, target))
        fake_b = self.g_ab(real_a)
        rec_a = self.g_ba(fake_b)
        fake_a = self.g_ba(real_b)
        rec_b = self.g_ab(fake_a)
        idt_a = self.g_ba(real_a)
        idt_b = self.g_ab(real_b)
        for p in self.d_params: p.requires_grad_(False)
        self.opt_g.zero_grad()
        loss_g = gan(self.d_b(fake_b), 1.) + gan(self.d_a(fake_a), 1.)
        loss_g = (loss_g + 10*(F.l1_loss(rec_a, real_a) + F.l1_loss(rec_b, real_b))
                  + 5*(F.l1_loss(idt_a, real_a) + F.l1_loss(idt_b, real_b)))
        loss_g.backward()
        self.opt_g.step()
        for p in self.d_params: p.requires_grad_(True)
        self.opt_d.zero_grad()
        for d,real,fake,pool in ((self.d_a,real_a,fake_a,self.pool_a),
                                 (self.d_b,real_b,fake_b,self.pool_b)):
            loss_d = .5*(gan(d(real), 1.) + gan(d(pool(fake)), 0.))
            loss_d.backward()
        self.opt_d.step()
        return (loss_g+loss_d).item()

class Library:
    "One iteration of `cyclegan_learner`"
    def __init__(self, model, batch, bf16, compiled=False):
        from fastai.callback.all import ProgressCallback
        from fastai.data.core import DataLoaders
        from neuroscope.trainers.callbacks import CPUMixedPrecision
        from neuroscope.trainers.building import cyclegan_learner
        self.learn = cyclegan_learner(DataLoaders([batch],[batch]), copy.deepcopy(model), r1=0)
        self.learn.remove_cb(ProgressCallback)
        if bf16:
            self.learn.to_bf16() if batch[0].device.type=='cuda' else self.learn.add_cb(
                CPUMixedPrecision())
        if compiled:
            for net in (*self.learn.model.generators(), *self.learn.model.discriminators()):
                net.compile()
        self.learn.create_opt()
        self.learn.opt.set_hyper('lr', (1e-4,4e-4))
        self.learn.n_iter = 1
        for event in ('before_fit','before_epoch','before_train'): self.learn(event)

    def step(self, real_a, real_b): self.learn.one_batch(0, (real_a,real_b))

VARIANTS = {'textbook, fp32': lambda m,b: Textbook(m, own_layers=False),
            "textbook with the library's layers, fp32": lambda m,b: Textbook(m, own_layers=True),
            'neuroscope, fp32': lambda m,b: Library(m, b, bf16=False),
            'neuroscope, bf16': lambda m,b: Library(m, b, bf16=True)}
COMPILED = {'neuroscope compiled, fp32': lambda m,b: Library(m, b, bf16=False, compiled=True),
            'neuroscope compiled, bf16': lambda m,b: Library(m, b, bf16=True, compiled=True)}

def make(args):
    "Model and batch"
    from neuroscope.models.cyclegan import CycleGAN
    torch.manual_seed(0)
    model = CycleGAN(generator_filters=args.filters,
                     discriminator_filters=args.discriminator_filters or args.filters,
                     n_residual_blocks=args.blocks)
    return model.to(args.device),tuple(
        (torch.rand(2, args.batch, 4, args.size, args.size)*2-1).to(args.device))

def wait(device):
    "Let the GPU finish, if it is one"
    if device.startswith('cuda'): torch.cuda.synchronize(device)

def peak_memory(name, args):
    "Peak memory of a process that runs two iterations of one variant, in MB: resident, or allocated on the GPU"
    cmd = [sys.executable, __file__, '--only', name] + [f'--{k.replace("_","-")}={v}'
                                                        for k,v in vars(args).items()
                                                        if k not in ('only','compile')
                                                        and v is not None]
    return float(subprocess.run(cmd, capture_output=True, text=True, check=True).stdout.split()[-1])

def best(f, reps=5, device='cpu'):
    "Least time of several calls, s: wall and processor"
    times = []
    for _ in range(reps):
        wait(device)
        start = time.perf_counter(),time.process_time()
        f()
        wait(device)
        times.append((time.perf_counter()-start[0], time.process_time()-start[1]))
    return tuple(map(min, zip(*times)))

def step_flops(variant, batch):
    "Floating-point operations of one iteration"
    from torch.utils.flop_counter import FlopCounterMode
    with FlopCounterMode(display=False) as count: variant.step(*batch)
    return count.get_total_flops()

def matmul_rate(dtype, device):
    "Operations a second in a product of large matrices: by wall time, by processor time"
    n = 8192 if device.startswith('cuda') else 1536
    a,b = (torch.rand(n, n, device=device).to(dtype) for _ in 'ab')
    # the first product also chooses how
    a@b
    return tuple(2*n**3/t for t in best(lambda: a@b, device=device))

def loading(args, n=32):
    "Wall and processor time of making a batch, s"
    from neuroscope.data.loaders import unpaired_dataloaders
    slices = torch.rand(n*args.batch, 4, args.size, args.size).numpy().astype('float16')
    dl = unpaired_dataloaders(slices, slices, bs=args.batch, valid_pct=0, device=args.device).train
    def epoch():
        for _ in dl: pass
    return tuple(t/n for t in best(epoch, 3, args.device))

def processor():
    "The name of the CPU"
    cpu = next((l.split(':')[1].strip()
                for l in open('/proc/cpuinfo') if l.startswith('model name')),
               '') if os.path.exists('/proc/cpuinfo') else ''
    return cpu or platform.processor() or platform.machine()

def machine(device):
    "What the figures were taken on"
    said = [f'{processor()}, {torch.get_num_threads()} threads, load '
            f'{os.getloadavg()[0]:.1f}, torch {torch.__version__}']
    if device.startswith('cuda'):
        def yes(on): return 'on' if on else 'off'
        said.append(f'{torch.cuda.get_device_name(device)}, CUDA {torch.version.cuda}, cuDNN '
                    f'{torch.backends.cudnn.version()}; TF32 in fp32 convolutions '
                    f'{yes(torch.backends.cudnn.allow_tf32)}, '
                    f'in matrix products {yes(torch.backends.cuda.matmul.allow_tf32)}; cuDNN '
                    f'benchmark {yes(torch.backends.cudnn.benchmark)}')
    return '\n'.join(said)

def warm_up(name, variant, batch, device):
    "First iterations, untimed; of a compiled variant, what the first took more than the third is said: forward and backward are compiled in it"
    took = []
    for _ in range(3 if name in COMPILED else 1):
        wait(device)
        start = time.perf_counter()
        variant.step(*batch)
        wait(device)
        took.append(time.perf_counter()-start)
    if name in COMPILED:
        print(f'{name}: compiling took {took[0]-took[-1]:.0f} s, before the times below')

def main():
    p = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--filters', type=int, default=32,
                   help='of the first layer of the generators (32; the standard network has 64)')
    p.add_argument('--discriminator-filters', type=int,
                   help='of the first layer of the discriminators (as the generators)')
    p.add_argument('--blocks', type=int, default=9, help='residual blocks (9)')
    p.add_argument('--size', type=int, default=96, help='pixels on a side (96)')
    p.add_argument('--batch', type=int, default=4, help='pairs of slices (4)')
    p.add_argument(
        '--reps', type=int,
        help='timed iterations of each variant (as many as fit into about 75 seconds, at least 5)')
    p.add_argument('--threads', type=int, help="of torch (torch's default)")
    p.add_argument('--device', default='cpu', help='to run on: cpu (default), cuda, cuda:1, …')
    p.add_argument('--tf32', choices=['on','off'],
                   help="single-precision products of a GPU in TF32 (as PyTorch has it: "
                        "convolutions yes, matrix products no)")
    p.add_argument(
        '--compile', action='store_true',
        help='the library with compiled networks, too: takes a C++ compiler on a CPU, and minutes')
    p.add_argument('--only', help=argparse.SUPPRESS)
    args = p.parse_args()
    if args.threads: torch.set_num_threads(args.threads)
    from neuroscope.core import InputError
    from neuroscope.trainers.callbacks import cpu_has_bf16
    from neuroscope.utils import usable_device
    try: usable_device(args.device)
    except InputError as e: p.error(str(e))
    if args.tf32:
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = args.tf32=='on'
    gpu = args.device.startswith('cuda')
    variants = VARIANTS | COMPILED
    model,batch = make(args)
    if args.only:
        v = variants[args.only](model, batch)
        for _ in range(2): v.step(*batch)
        return print(torch.cuda.max_memory_allocated(args.device)/1e6 if gpu else peak_mb())

    bf16 = torch.cuda.is_bf16_supported() if gpu else cpu_has_bf16()
    names = [n for n in (variants if args.compile else VARIANTS) if bf16 or 'bf16' not in n]
    print(machine(args.device))
    print(f'{args.filters} filters, {args.blocks} residual blocks, {args.batch} × 4 '
          f'× {args.size} × {args.size} from each site')
    variants = {n: variants[n](model, batch) for n in names}
    def timed(v):
        wait(args.device)
        start = time.perf_counter(),time.process_time()
        v.step(*batch)
        wait(args.device)
        return time.perf_counter()-start[0],time.process_time()-start[1]
    for n,v in variants.items(): warm_up(n, v, batch, args.device)
    reps = args.reps or max(5, min(200, int(75/sum(timed(v)[0] for v in variants.values()))))
    times = {n: [] for n in names}
    for i in range(reps):
        for n in (names if i%2 else names[::-1]): times[n].append(timed(variants[n]))

    base = times[names[0]]
    memory = {n: peak_memory(n, args) for n in names}
    print(f'\n{"":42s}{"ms, median":>12s}{"fastest":>10s}{"ratio":>9s}{"(quartiles)":>16s}{"[processor]":>13s}{"peak MB":>9s}{"ratio":>8s}')
    for n,t in times.items():
        q1,ratio,q3 = statistics.quantiles([b[0]/x[0] for b,x in zip(base, t)], n=4)
        cpu_ratio = statistics.median(b[1]/x[1] for b,x in zip(base, t))
        wall = [x[0] for x in t]
        print(f'{n:42s}{1e3*statistics.median(wall):12.0f}{1e3*min(wall):10.0f}{ratio:8.2f}x{f"({q1:.2f}-{q3:.2f})":>16s}{f"[{cpu_ratio:.2f}x]":>13s}{memory[n]:9.0f}{memory[n]/memory[names[0]]:7.2f}x')
    if not bf16: print('This device has no bfloat16 arithmetic: the bf16 variant is left out.')
    print('\nratio: time of the textbook loop over time of the variant, median over '
          f'{reps} interleaved repetitions; of memory: the variant over the textbook')
    in_place(args, {n: (variants[n], times[n]) for n in names if n.startswith('neuroscope,')},
             batch)

def in_place(args, measured, batch):
    "Print the arithmetic floor of the library's step, and the share of loading"
    load = loading(args)
    for n,(variant,t) in measured.items():
        flops = step_flops(variant, batch)
        rate = matmul_rate(torch.bfloat16 if 'bf16' in n else torch.float32, args.device)
        took = [min(x[i] for x in t) for i in (0,1)]
        print(f'{n}: {flops/1e9:.1f} GFLOP in {1e3*took[0]:.0f} ms [{1e3*took[1]:.0f} ms '
              f'of processor]; at the matrix-product rate of {rate[0]/1e9:.0f} GFLOP/s '
              f'[{rate[1]/1e9:.0f}] it would be '
              f'{1e3*flops/rate[0]:.0f} ms [{1e3*flops/rate[1]:.0f}]: the step runs at '
              f'{100*flops/rate[0]/took[0]:.0f} % [{100*flops/rate[1]/took[1]:.0f} %] of '
              'that rate')
        print(f'{n}: making a batch takes {1e3*load[0]:.1f} ms [{1e3*load[1]:.1f}], '
              f'{100*load[1]/took[1]:.1f} % of an iteration')

if __name__=='__main__': main()
